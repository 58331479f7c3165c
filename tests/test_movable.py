"""What moves without a kernel: a decoder, whose pixels are torch's in JupyterLab and in a page.

The widgets are put into a plain page, opened as a file with the network off, and moved by the keyboard.
"""

import base64
import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from tiny import held
from torch import nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.fleet import new_model
from vaekit.models import DenseVAE
from vaekit.store import bundles
from vaekit.widgets import decoder, movable, network, show

# ---- from models and members to what a page holds


def vae(shape=(3, 32, 32), **arguments) -> DenseVAE:
    """A dense VAE in eval mode that was never trained, but whose images are of all brightnesses."""
    model = new_model(lambda: DenseVAE(shape, **{"depth": 3, "hidden": 32} | arguments), 0)
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


def last(width=2, shape=(1, 2, 2)) -> list[nn.Module]:
    return [nn.Linear(width, int(np.prod(shape))), nn.Unflatten(1, shape)]


class Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def image_of(*layers) -> Own:
    """A decoder that begins with two maps of 4 x 4."""
    return Own(nn.Unflatten(1, (2, 4, 4)), *layers).eval()


def broken() -> DenseVAE:
    model = vae()
    model.decoder[0].weight.data[0, 0] = torch.inf
    return model


REFUSED = {
    "nothing": (lambda: None, "this NoneType is no model"),
    "a class": (lambda: DenseVAE, "is no model"),
    "another layer": (
        lambda: Own(nn.Linear(2, 3), nn.GELU(), *last(3)).eval(),
        r"layer 2 of the decoder is GELU.*Linear",
    ),
    "groups": (lambda: image_of(nn.Conv2d(2, 2, 3, groups=2)), r"layer 2 .* is Conv2d with groups 2,"),
    "padding by name": (lambda: image_of(nn.Conv2d(2, 1, 3, padding="same")), "with padding same"),
    "reflected": (lambda: image_of(nn.Conv2d(2, 1, 3, padding=1, padding_mode="reflect")), "padding_mode reflect"),
    "no statistics": (lambda: image_of(nn.BatchNorm2d(2, track_running_stats=False)), "without running statistics"),
    "a batch norm behind ReLU": (lambda: image_of(nn.ReLU(), nn.BatchNorm2d(2)), "BatchNorm2d behind no linear layer"),
    "rows of an image": (lambda: image_of(nn.Linear(4, 4)), r"is Linear on values of shape \(2, 4, 4\)"),
    "training": (lambda: DenseVAE(), r"model\.eval\(\)"),
    "no decoder": (lambda: nn.Linear(2, 2).eval(), "no `decoder`"),
    "no first layer": (lambda: Own(nn.ReLU(), *last()).eval(), "begin with a Linear or an Unflatten"),
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
    spec, weights = network.packed(model)
    linear = [layer for layer in model.decoder if isinstance(layer, nn.Linear)]
    matrices = [layer.weight.detach().numpy() for layer in linear]
    rest, whole = np.frombuffer(weights, "<f4", spec["floats"]), np.frombuffer(weights, "<i2", -1, 4 * spec["floats"])
    assert whole.nbytes == sum(2 * weight.size for weight in matrices)
    sizes = np.split(rest, np.cumsum([len(weight) for weight in matrices for _ in range(2)])[:-1])
    steps = np.split(whole, np.cumsum([weight.size for weight in matrices])[:-1])
    for layer, weight, quantised, size, bias in zip(linear, matrices, steps, sizes[::2], sizes[1::2], strict=True):
        errors = quantised.reshape(weight.shape) * size[:, None] - weight
        assert np.abs(errors).max() <= np.abs(weight).max() / 65_000
        assert np.square(errors).mean() < np.square(weight.astype(np.float16) - weight).mean() / 9
        assert (bias == layer.bias.detach().numpy()).all()


def test_a_carried_decoder_is_shown_as_the_model_it_is_of():
    model = vae().half().float()  # which is how it is carried
    bare = DenseVAE(depth=3, hidden=32)
    bare.load_state_dict({name: value.float() for name, value in bundles.decoder_of(model).items()}, strict=False)
    assert held(decoder(bare.eval())) == held(decoder(model.float()))


@pytest.mark.parametrize(("likelihood", "ops"), [(Bernoulli, ["tanh", "sigmoid"]), (Gaussian, ["tanh"])])
def test_a_model_of_ones_own_is_known_by_what_it_returns(likelihood, ops):
    model = Own(nn.Linear(2, 3, bias=False), nn.LeakyReLU(0.2), *last(3), nn.Tanh(), likelihood=likelihood).eval()
    first, second, _, *rest = network.packed(model)[0]["layers"]
    assert (first["op"], first["from"], first["to"]) == ("linear", [2, 1, 1], [3, 1, 1])
    assert second == {"op": "relu", "slope": 0.2}
    assert [layer["op"] for layer in rest] == ops


def test_a_page_gets_html_and_a_notebook_the_widget():
    widget = decoder(vae(), caption="</script><b>")
    page = show("results", widget)
    assert "live" not in vars(widget)  # else the page would carry a widget's state
    soup = BeautifulSoup(page._repr_html_(), "html.parser")
    assert "slider for each of the 10 dimensions" in soup.select_one(".vaekit-widget noscript").text
    assert not soup.select("b, [src], [href]")
    assert show("store", widget) is widget
    bundle, *_ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert widget.live.get_state(["kind", "data", "value"]) == {k: v for k, v in held(widget).items() if k != "weights"}


# ---- in a browser

PRESSED = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9, " ": 32, "End": 35, "Home": 36}
PRESSED |= {"Enter": 13}


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
    assert len([url for url in tab.requests() if not url.startswith("data:")]) == 1  # the page itself


@pytest.mark.browser
def test_the_module_is_what_jupyterlab_takes(tab, tmp_path):
    """Loaded as anywidget loads it, over a model that Python moves."""
    model = vae()
    page = Opened(tab, tmp_path / "page.html", decoder(model))
    told = tab.evaluate(f"""window.told = (async () => {{
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


# A stand-in for JupyterLab's model: `set` is a kernel that moves the widget.
LAB = """window.told = (async () => {
    const module = await import(URL.createObjectURL(new Blob([MODULE], { type: "text/javascript" })));
    const el = document.createElement("div");
    document.querySelector("main").replaceChildren(el);
    const state = STATE;
    for (const [name, base64] of Object.entries(state.weights ?? {}))
        state.weights[name] = new DataView(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt()).buffer);
    const listeners = [];
    const told = (event, ...what) => listeners.filter(([name]) => name === event).forEach(([, tell]) => tell(...what));
    window.lab = { el, sent: [], set: (name, value) => { state[name] = value; told(`change:${name}`); },
        get: (name) => state[name], save_changes: () => {}, on: (event, tell) => listeners.push([event, tell]),
        send: (message) => window.lab.sent.push(message), reply: (...what) => told("msg:custom", ...what) };
    module.default.render({ el, model: window.lab });
})()"""


def in_lab(tab, tmp_path, state) -> None:
    """Show a widget as JupyterLab does, in an empty page."""
    (tmp_path / "lab.html").write_text('<!doctype html><html lang="en"><title>Lab</title><main></main></html>')
    tab.open((tmp_path / "lab.html").as_uri())
    tab.evaluate(LAB.replace("MODULE", json.dumps(movable.Live._esm)).replace("STATE", json.dumps(state)))


FAULTS = {
    "a code of another size": ([1.0, 2.0], "give 10 finite numbers"),
    "a code that is no number": ([None] * 10, "give 10 finite numbers"),
    "a code beyond every number": ([3e38] * 10, "is not finite"),
}


@pytest.mark.browser
@pytest.mark.parametrize("fault", FAULTS)
def test_an_exception_stands_in_place_of_the_picture_until_a_slider_moves(tab, tmp_path, fault):
    value, says = FAULTS[fault]
    in_lab(tab, tmp_path, held(decoder(vae())))
    pictures = "lab.el.querySelectorAll('canvas').length"
    before = tab.evaluate(pictures)
    for _ in range(2):  # also a second time, and after a first
        tab.evaluate(f"lab.set('value', {json.dumps(value)})")
        assert says in tab.evaluate("lab.el.querySelector('[role=alert]').innerText")
        assert tab.evaluate(pictures) == 0
    assert any(says in error for error in tab.errors())  # nor is it kept from who looks for it
    tab.evaluate("""lab.el.querySelectorAll("input[type=range]").forEach((slider) => {
        slider.value = 0; slider.dispatchEvent(new InputEvent("input", { bubbles: true })); })""")
    assert tab.evaluate(pictures) == before
    assert tab.evaluate("lab.el.querySelector('[role=alert]')") is None


@pytest.mark.browser
def test_a_widget_that_cannot_be_built_says_why(tab, tmp_path):
    state = held(decoder(vae()))
    for wrong, says in (({"data": {"says": "x"}}, "Error"), ({"weights": {}}, "are not in this page")):
        in_lab(tab, tmp_path, state | wrong)
        assert says in tab.evaluate("lab.el.querySelector('[role=alert]').innerText")
        assert tab.evaluate("lab.el.querySelectorAll('canvas').length") == 0
