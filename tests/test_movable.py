"""What moves without a kernel: the page's pixels are torch's, and point, picture and numbers move together.

The widgets are put into a plain page, opened as a file with the network off, and moved by the keyboard.
"""

import base64
import io
import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image
from tiny import settings
from torch import nn

from vaekit import decoders
from vaekit.distributions import Bernoulli, Gaussian
from vaekit.fleet import new_model
from vaekit.models import ConvVAE, DenseVAE
from vaekit.widgets import curve, decoder, movable, show

# ---- from models and members to what a page holds


def vae(shape=(3, 32, 32), **how) -> DenseVAE:
    """A dense VAE in eval mode that was never trained, but whose images are of all brightnesses."""
    model = new_model(lambda: DenseVAE(shape, **{"depth": 3, "hidden": 32} | how), 0)
    with torch.no_grad():
        for layer in model.decoder:
            if isinstance(layer, nn.Linear):
                layer.weight *= 4
    return model.eval()


class Other(NamedTuple):
    mean: torch.Tensor


class Own(nn.Module):
    """A model of one's own, whose likelihood is known from what `forward` returns alone."""

    def __init__(self, *layers, likelihood=Bernoulli):
        super().__init__()
        self.noise_sites = {"z": (2,)}
        self.encoder = nn.Flatten()
        self.decoder = nn.Sequential(*layers)
        self.likelihood = likelihood

    def forward(self, x, noise):
        out = self.decoder(self.encoder(x)[:, :2] + noise["z"])
        return {"x": self.likelihood(*[out, torch.zeros(())][: len(self.likelihood._fields)])}


def state(shown) -> dict:
    """What a page holds of a widget."""
    return json.loads(BeautifulSoup(shown.static()._repr_html_(), "html.parser").select_one("script").string)


def last(width=2, shape=(1, 2, 2)) -> list[nn.Module]:
    return [nn.Linear(width, int(np.prod(shape))), nn.Unflatten(1, shape)]


class Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def broken() -> DenseVAE:
    model = vae()
    model.decoder[0].weight.data[0, 0] = torch.inf
    return model


REFUSED = {
    "a convolution": (lambda: ConvVAE((1, 8, 8), depth=1).eval(), r"layer 4 of the decoder is ConvTranspose2d.*Linear"),
    "training": (lambda: DenseVAE(), r"model\.eval\(\)"),
    "no decoder": (lambda: nn.Linear(2, 2).eval(), "no `decoder`"),
    "no first layer": (lambda: Own(nn.ReLU(), *last()).eval(), "begin with a Linear"),
    "no shape": (lambda: Own(nn.Linear(2, 4)).eval(), r"Unflatten\(1, \(C, H, W\)\)"),
    "two colours": (lambda: Own(*last(shape=(2, 2, 2))).eval(), r"\(2, 2, 2\)"),
    "a layer that does more": (lambda: Own(Twice(2, 2), *last()).eval(), "more than its layers say"),
    "infinite": (broken, "not all finite"),
    "another likelihood": (lambda: Own(*last(), likelihood=Other).eval(), "likelihood"),
    "too large": (lambda: DenseVAE(hidden=1000).eval(), r"8\.\d MB.*6 MB.*smaller"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_model_that_no_page_can_run_is_refused(why):
    make, says = REFUSED[why]
    with pytest.raises(ValueError, match=says):
        decoder(make())


@pytest.mark.parametrize("z", [[0.0] * 9, [0.0] * 9 + [float("nan")]])
def test_a_code_of_another_size_is_refused(z):
    with pytest.raises(ValueError, match="give 10 finite numbers"):
        decoder(vae(), z=z)


def test_weights_take_two_bytes_and_are_finer_than_float16():
    model = vae()
    packed = state(decoder(model))["data"]
    linear = [layer for layer in model.decoder if isinstance(layer, nn.Linear)]
    matrices = [layer.weight.detach().numpy() for layer in linear]
    whole = np.frombuffer(base64.b64decode(packed["weights"]), "<i2")
    rest = np.frombuffer(base64.b64decode(packed["rest"]), "<f4")
    assert whole.nbytes == sum(2 * weight.size for weight in matrices)
    sizes = np.split(rest, np.cumsum([len(weight) for weight in matrices for _ in range(2)])[:-1])
    steps = np.split(whole, np.cumsum([weight.size for weight in matrices])[:-1])
    for layer, weight, mine, size, bias in zip(linear, matrices, steps, sizes[::2], sizes[1::2], strict=True):
        apart = mine.reshape(weight.shape) * size[:, None] - weight
        assert np.abs(apart).max() <= np.abs(weight).max() / 65_000
        assert np.square(apart).mean() < np.square(weight.astype(np.float16) - weight).mean() / 9
        assert (bias == layer.bias.detach().numpy()).all()


def test_a_carried_decoder_is_shown_as_the_model_it_is_of():
    name = decoders.file_name("0" * 64, 20)
    model = vae().half().float()  # which is how it is carried
    about, weights = decoders.unpack(decoders.pack(model, {"key": "0" * 64, "step": 20}), name)
    assert about["step"] == 20
    with torch.device("meta"):
        bare = DenseVAE(depth=3, hidden=32)
    assert state(decoder(decoders.fit(bare, weights, name))) == state(decoder(model))


@pytest.mark.parametrize(("likelihood", "ops"), [(Bernoulli, ["tanh", "sigmoid"]), (Gaussian, ["tanh"])])
def test_a_model_of_ones_own_is_known_by_what_it_returns(likelihood, ops):
    model = Own(nn.Linear(2, 3, bias=False), nn.LeakyReLU(0.2), *last(3), nn.Tanh(), likelihood=likelihood).eval()
    layers = state(decoder(model))["data"]["layers"]
    assert layers[:2] == [{"op": "linear", "inputs": 2, "size": 3}, {"op": "relu", "slope": 0.2}]
    assert [layer["op"] for layer in layers[3:]] == ops


def png(shade: int, size=(16, 8)) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(written, "png")
    return written.getvalue()


def point(depth: int, beta: float, **how) -> dict:
    given = {"series": {"train": (10 / beta, 60 + depth), "test": (11 / beta, 70 + depth)}}
    given |= {"numbers": {"D (test), nats": f"{70 + depth} ± {beta}"}, "picture": png(depth), "alt": f"{depth}, {beta}"}
    return {"axes": {"depth": depth, "beta": beta}} | given | how


# Of what no page shows alone: depth 3 lacks beta 1, and has no picture at 0.3.
POINTS = [point(1, 1.0), point(1, 0.1), point(1, 0.3), point(3, 0.1), point(3, 0.3, picture=None)]
WRONG = {
    "points to move": [],
    "differ in their axes": [*POINTS, {"axes": {"beta": 1}}],
    "two points are at depth 1, beta 0.1": [*POINTS, point(1, 0.1)],
    "at depth 1, beta 3 is": [*POINTS, point(1, 3.0, series={"test": (float("nan"), 1)})],
    "no PNG or has no alt": [point(1, 1.0, alt=" ")],
    "is no PNG": [point(1, 1.0, picture=b"GIF89a")],
    "5 series": [point(1, 1.0, series={str(i): (1, 1) for i in range(5)})],
    "no point has coordinates": [point(1, 1.0, series={"test": None})],
}


@pytest.mark.parametrize("says", WRONG)
def test_points_that_no_plot_can_hold_are_refused(says):
    with pytest.raises(ValueError, match=says):
        curve(WRONG[says])


def test_a_curve_starts_where_it_is_told_and_knows_its_axes():
    with pytest.raises(ValueError, match="stored value for each of depth, beta"):
        curve(POINTS, start={"depth": 2, "beta": 0.1})
    made = state(curve(POINTS, start={"depth": 3, "beta": np.float64(1)}))
    assert made["value"] == [3, 1.0]
    assert [axis["values"] for axis in made["data"]["axes"]] == [[1, 3], [0.1, 0.3, 1.0]]
    assert [axis["labels"] for axis in made["data"]["axes"]] == [["1", "3"], ["0.1", "0.3", "1"]]
    assert state(curve(POINTS))["value"] == [1, 0.3]


def test_a_page_gets_html_and_a_notebook_the_widget():
    made = curve(POINTS, caption="</script><b>")
    page = show(settings("published"), made)
    assert "live" not in vars(made)  # else the page would carry a widget's state
    soup = BeautifulSoup(page._repr_html_(), "html.parser")
    assert "depth and beta" in soup.select_one(".vaekit-widget noscript").text
    assert not soup.select("b, [src], [href]")
    assert len(soup.select("script")) == 2
    assert show(settings("quick"), made) is made
    bundle, *_ = made._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert made.live.get_state(["kind", "data", "value"]) == state(made)


# ---- in a browser

PRESSED = {"ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, " ": 32, "End": 35}


class Opened:
    """A page with some widgets, and what a reader does to them."""

    def __init__(self, tab, path, *shown, width=1200):
        body = "".join(each.static()._repr_html_() for each in shown)
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Widgets</title>'
        path.write_text(f'<!doctype html><html lang="en">{head}<main>{body}</main></html>')
        self.tab = tab
        tab.open(path.as_uri(), width)

    def __call__(self, script: str):
        return self.tab.evaluate(f"""(() => {{
            const widgets = [...document.querySelectorAll(".vaekit-widget")];
            const all = (i, selector) => [...widgets[i].querySelectorAll(selector)];
            return {script};
        }})()""")

    def press(self, key: str, times: int = 1):
        for kind in ["keyDown", "keyUp"] * times:
            self.tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=PRESSED[key])

    def slide(self, widget: int, slider: int, key: str, times: int = 1):
        self(f"all({widget}, 'input[type=range]')[{slider}].focus()")
        self.press(key, times)

    def picture(self, widget: int) -> np.ndarray:
        """The pixels of a decoder's canvas, (H, W, 4)."""
        height, width, pixels = self(f"""(() => {{ const [c] = all({widget}, "canvas");
            const pixels = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
            return [c.height, c.width, btoa(String.fromCharCode(...pixels))]; }})()""")
        return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)


def far_from(picture: np.ndarray, model, z) -> float:
    """How far a picture's worst pixel is from torch's mean at z, in [0, 1]."""
    with torch.no_grad():
        mean = model.decode(torch.tensor([z], dtype=torch.float32)).mean[0].clamp(0, 1)
    assert mean.std() > 0.1  # else any picture would do
    assert (picture[..., 3] == 255).all()
    shown = torch.tensor(picture[..., :3] / 255.0).permute(2, 0, 1)
    return float((shown - mean).abs().max())


@pytest.mark.browser
def test_each_pixel_is_torchs(tab, tmp_path):
    start = [0.123456, -4.2, *[0.0] * 8]
    models = [vae(), vae((1, 28, 28)), vae(likelihood="gaussian", depth=1)]
    codes = [[0.0] * 10, start, [0.0] * 10]
    page = Opened(tab, tmp_path / "page.html", *[decoder(m, z=z) for m, z in zip(models, codes, strict=True)])
    assert page("widgets.map((w) => w.querySelector('input').max)") == ["3", "5", "3"]
    for widget, (model, code) in enumerate(zip(models, codes, strict=True)):
        before = page.picture(widget)
        # Of the 1/255, half a step is the rounding to 8 bits.
        assert far_from(before, model, code) <= 1 / 255
        page.slide(widget, 2, "ArrowRight", times=7)
        page.slide(widget, 9, "End")
        moved = [*code[:2], 0.7, *code[3:9], float(page(f"all({widget}, 'input')[9].max"))]
        assert page(f"all({widget}, 'input')[2].getAttribute('aria-valuetext')") == "0.7"
        assert far_from(page.picture(widget), model, moved) <= 1 / 255
        assert "0.7" in page(f"all({widget}, 'canvas')[0].getAttribute('aria-label')")
        page("document.activeElement.blur()")
        page(f"all({widget}, 'button')[1].click()")
        assert (page.picture(widget) != before).any()
        page(f"all({widget}, 'button')[0].focus()")
        page.press(" ")
        assert (page.picture(widget) == before).all()
    assert not tab.errors()
    assert len(tab.requests()) == 1  # the page itself


@pytest.mark.browser
def test_point_picture_and_numbers_move_together(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", curve(POINTS, start={"depth": 1, "beta": 0.1}), curve(POINTS), width=390)

    def seen(widget=0) -> dict:
        return page(f"""{{
            ringed: all({widget}, ".ring").map((ring) => all({widget}, ".dot").findIndex((mark) =>
                mark.getAttribute("transform") === ring.getAttribute("transform"))),
            marks: all({widget}, ".dot").length,
            picture: all({widget}, "img").map((i) => [i.alt, i.src.split(",")[1], i.attributes.width.value]),
            numbers: all({widget}, "tr").map((row) => row.innerText.split("\\t")),
            says: all({widget}, ".found")[0].innerText,
            graph: all({widget}, "svg[role=img]")[0].getAttribute("aria-label"),
            value: all({widget}, "input[type=range]")[0].getAttribute("aria-valuetext"),
        }}""")

    other = seen(1)
    for step, beta in enumerate([0.1, 0.3, 1.0]):
        now = seen()
        assert now["value"] == f"{beta:g}"
        assert now["marks"] == 6
        assert now["ringed"] == [step, 3 + step]
        assert now["picture"] == [[f"1, {beta}", base64.b64encode(png(1)).decode(), "400"]]
        assert now["numbers"] == [["D (test), nats", f"71 ± {beta}"]]
        assert f"depth 1, beta {beta:g}: train at {10 / beta:.0f}" in now["graph"]
        page.slide(0, 0, "ArrowRight")
    page("all(0, 'input[type=radio]')[0].focus()")
    page.press("ArrowRight")
    absent = seen()
    assert absent["says"] == "There is no stored member at depth 3, beta 1."
    assert (absent["ringed"], absent["picture"], absent["marks"]) == ([], [], 4)
    page.slide(0, 0, "ArrowLeft")
    bare = seen()
    assert bare["picture"] == []
    assert bare["says"].startswith("3, 0.3")
    assert bare["ringed"] == [1, 3]
    page("all(0, '.dot')[0].dispatchEvent(new MouseEvent('click'))")
    assert seen()["value"] == "0.1"
    assert seen(1) == other
    assert not tab.errors()
    assert all(url.startswith(("file:", "data:")) for url in tab.requests())


@pytest.mark.browser
def test_a_finger_can_move_it_and_a_phone_is_wide_enough(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", decoder(vae(), "A line."), curve(POINTS, "A line."), width=390)
    assert page("document.documentElement.scrollWidth") <= 390
    sizes = page("widgets.flatMap((w) => [...w.querySelectorAll('input[type=range], button, label')]"
                 ".map((e) => e.getBoundingClientRect().height))")  # fmt: skip
    assert len(sizes) == 15
    assert min(sizes) >= 44
    widths = page("widgets.flatMap((w) => [...w.querySelectorAll('input[type=range]')].map((e) => e.offsetWidth))")
    assert min(widths) > 200
    names = page("widgets.flatMap((w) => [...w.querySelectorAll('input[type=range]')].map((e) => e.ariaLabel))")
    assert names == [*(f"z{i}" for i in range(1, 11)), "beta"]


@pytest.mark.browser
def test_the_module_is_what_jupyterlab_takes(tab, tmp_path):
    """Loaded as anywidget loads it, over a model that Python moves."""
    model = vae()
    page = Opened(tab, tmp_path / "page.html", decoder(model))
    told = tab.evaluate(f"""(async () => {{
        const text = {json.dumps(movable.Live._esm)};
        const module = await import(URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }})));
        const state = JSON.parse(document.querySelector(".vaekit-widget script").textContent);
        const [el, listeners, saved] = [document.createElement("div"), new Set(), []];
        document.querySelector(".vaekit-widget").replaceWith(el);
        const set = (name, value) => {{ state[name] = value; listeners.forEach((tell) => tell()); }};
        const done = module.default.render({{ el, model: {{
            get: (name) => state[name], set, save_changes: () => saved.push(state.value),
            on: (event, tell) => event === "change:value" && listeners.add(tell),
            off: (event, tell) => listeners.delete(tell),
        }} }});
        set("value", [0.25, ...Array(9).fill(-1)]);
        const before = [listeners.size, saved.length];
        el.querySelector("button").click();
        const reset = saved.at(-1);
        set("value", [0.25, ...Array(9).fill(-1)]);
        done();
        return [before, reset, listeners.size];
    }})()""")
    assert told == [[1, 0], [0] * 10, 0]
    assert far_from(page.picture(0), model, [0.25, *[-1.0] * 9]) <= 1 / 255
