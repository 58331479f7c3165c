"""What moves without a kernel: the page's pixels are torch's, and point, picture and numbers move together.

The widgets are put into a plain page, opened as a file with the network off, and moved by the keyboard.
"""

import base64
import io
import json
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image
from tiny import held
from torch import nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.fleet import new_model
from vaekit.models import ConvVAE, DenseVAE
from vaekit.store import ImageGrid, bundles
from vaekit.widgets import Page, by_budget, curve, decoder, grid_png, movable, show

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


def broken() -> DenseVAE:
    model = vae()
    model.decoder[0].weight.data[0, 0] = torch.inf
    return model


REFUSED = {
    "nothing": (lambda: None, "this NoneType is no model"),
    "a class": (lambda: DenseVAE, "is no model"),
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
    packed = held(decoder(model))["data"]
    linear = [layer for layer in model.decoder if isinstance(layer, nn.Linear)]
    matrices = [layer.weight.detach().numpy() for layer in linear]
    whole = np.frombuffer(base64.b64decode(packed["weights"]), "<i2")
    rest = np.frombuffer(base64.b64decode(packed["rest"]), "<f4")
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
    layers = held(decoder(model))["data"]["layers"]
    assert layers[:2] == [{"op": "linear", "inputs": 2, "size": 3}, {"op": "relu", "slope": 0.2}]
    assert [layer["op"] for layer in layers[3:]] == ops


def png(shade: int, size=(16, 8)) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(written, "png")
    return written.getvalue()


def point(depth: int, beta: float, **changes) -> dict:
    fields = {"series": {"train": (10 / beta, 60 + depth), "test": (11 / beta, 70 + depth)}}
    fields |= {"numbers": {"D (test), nats": f"{70 + depth} ± {beta}"}}
    fields |= {"picture": png(depth), "alt": f"{depth}, {beta}"}
    return {"axes": {"depth": depth, "beta": beta}} | fields | changes


# Of what no page shows alone: depth 3 lacks beta 1, and has no picture at 0.3.
POINTS = [point(1, 1.0), point(1, 0.1), point(1, 0.3), point(3, 0.1), point(3, 0.3, picture=None)]


def of(budget: str, one: dict) -> dict:
    """The same point of a curve that a list chooses."""
    return one | {"axes": {"budget": budget} | one["axes"]}


def spread(x, y, sd_x=0.0, sd_y=0.0) -> dict:
    return {"series": {"test": (x, y, sd_x, sd_y)}}


# Two budgets, of which the second is short of a depth and of betas, and lies elsewhere.
LONG, SHORT = "CV(16,384): 50,000 steps of 128", "CV(4,096): 1,000 steps of 64"
TWO = [of(LONG, point(depth, beta, **spread(30 + beta, 70 + depth))) for depth in (1, 3) for beta in (0.1, 1.0, 3.0)]
TWO += [of(SHORT, point(1, 0.1, **spread(5, 200, 3, 25))), of(SHORT, point(1, 0.5, **spread(2, 260), picture=None))]


def at(beta) -> dict:
    """A point at a beta that may be none."""
    return point(1, 1.0, axes={"depth": 1, "beta": beta})


WRONG = {
    "points to move": [],
    "differ in their axes": [*POINTS, {"axes": {"beta": 1}}],
    "two points are at depth 1, beta 0.1": [*POINTS, point(1, 0.1)],
    "at depth 1, beta 3 is": [*POINTS, point(1, 3.0, series={"test": (float("nan"), 1)})],
    "at depth 1, beta 1 is": [point(1, 1.0, **spread(1, 1, float("nan"), 0))],
    "no PNG or has no alt": [point(1, 1.0, alt=" ")],
    "is no PNG": [point(1, 1.0, picture=b"GIF89a")],
    "5 series": [point(1, 1.0, series={str(i): (1, 1) for i in range(5)})],
    "no point has coordinates": [point(1, 1.0, series={"test": None})],
    "no series": [{"axes": {"beta": 1}}],
    r"is \(1,\); give x, y": [point(1, 1.0, series={"test": (1,)})],
    r"is \(1, 2, 3\); give x, y": [point(1, 1.0, series={"test": (1, 2, 3)})],
    "leave out what is not finite": [point(1, 1.0, series={"test": (1e308, 1, 1e308, 1)})],
    "at depth 1, beta 0.3 is no PNG": [point(1, 0.3, picture=png(1)[:20])],
    "beta is nan at a point": [at(float("nan"))],
    "beta is inf at a point": [at(float("inf"))],
    "beta is {} at a point": [at({})],
    r"beta is tensor\(1.\) at a point": [at(torch.tensor(1.0))],
    "beta is True and 1, which no reader": [at(True), at(1)],
    "beta is False and 0.0, which no reader": [at(False), at(0.0), at(2)],
    "beta is '1' and 1, which no reader": [at("1"), at(1)],
    "beta is None and 'None', which no reader": [at(None), at(3), at("None")],
    r"two points are at depth 1, beta \(1, 2\)": [at((1, 2)), at([1, 2])],
}


@pytest.mark.parametrize("says", WRONG)
def test_points_that_no_plot_can_hold_are_refused(says):
    with pytest.raises(ValueError, match=says):
        curve(WRONG[says])


@pytest.mark.parametrize("axes", [("budget", "beta"), ("beta", "budget")])
def test_an_axis_that_the_budgets_would_overwrite_is_refused(axes):
    points = [point(1, 1.0, axes=dict.fromkeys(axes, 1))]
    assert held(by_budget("store", [(LONG, points)]))["value"] == [1, 1]
    with pytest.raises(ValueError, match="an axis is called budget"):
        by_budget("store", [(LONG, points), (SHORT, points)])


def test_points_may_come_one_by_one_and_without_words():
    points = [point(1, 1.0, picture=None, alt=None), point(1, 3.0)]
    assert held(curve(iter(points))) == held(curve([points[0] | {"alt": ""}, points[1]]))


def test_a_curve_starts_where_it_is_told_and_knows_its_axes():
    with pytest.raises(ValueError, match="stored value for each of depth, beta"):
        curve(POINTS, start={"depth": 2, "beta": 0.1})
    state = held(curve(POINTS, start={"depth": 3, "beta": np.float64(1)}))
    assert state["value"] == [3, 1.0]
    assert [axis["values"] for axis in state["data"]["axes"]] == [[1, 3], [0.1, 0.3, 1.0]]
    assert [axis["labels"] for axis in state["data"]["axes"]] == [["1", "3"], ["0.1", "0.3", "1"]]
    assert held(curve(POINTS))["value"] == [1, 0.3]


# Of an axis, values of each kind, and the texts by which a reader knows them.
KINDS = {
    "names": (["dense", "conv"], ["dense", "conv"]),
    "truth": ([True, False], ["False", "True"]),
    "numbers and none": ([4096, None, 16384], ["4096", "None", "16384"]),
    "whole numbers": ([3, 1, 2_000_001, 2_000_000], ["1", "3", "2000000", "2000001"]),
    "whole numbers of any size": ([2**60, 2**60 + 1], [f"{2**60}", f"{2**60 + 1}"]),
    "numbers": ([1.0, 0.1, np.float32(0.5), np.int64(2)], ["0.1", "0.5", "1", "2"]),
    "numbers side by side": ([0.1, 0.1 + 1e-8], ["0.1", "0.10000001"]),
    "pairs": ([(64, 128), (0.1, "x")], ["(64, 128)", "(0.1, x)"]),
    "one place": (["alone"], ["alone"]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", ["beta", "depth"])
def test_an_axis_has_values_of_any_kind(kind, last):
    values, labels = KINDS[kind]
    other = "depth" if last == "beta" else "beta"
    names = (other, last)
    places = [dict(zip(names, place, strict=True)) for value in values for place in ((value, 1), (value, 2))]
    places = [
        {name: place[name] for name in names[:: 1 - 2 * (i % 2)]} for i, place in enumerate(places)
    ]  # in any order
    shown = curve([point(1, 1.0, axes=place) for place in places], start=places[-1])
    state = held(shown)
    assert state["data"]["axes"][0]["labels"] == labels
    assert len({*map(str, state["data"]["axes"][0]["values"])}) == len(labels)
    assert state["value"][0] in state["data"]["axes"][0]["values"]
    assert state["value"][1] == 2


def test_a_plot_has_ticks_that_differ_whatever_the_range():
    for values in ([1e-6, 2e-6], [1e6, 1e6 + 0.1], [1e20], [0.0], [-1e250, 1e250]):
        points = [point(1, beta, series={"test": (value, value)}) for beta, value in enumerate(values, 1)]
        (plot,) = held(curve(points, diagonals="D + R"))["data"]["plots"]
        for axis in (plot["x"], plot["y"]):
            assert axis["low"] < min(values) <= max(values) < axis["high"]
            assert 1 <= len(axis["ticks"]) <= 10
            assert len({text for _, text in axis["ticks"]}) == len(axis["ticks"])
        assert len(plot["diagonals"]) <= 10


def test_a_page_gets_html_and_a_notebook_the_widget():
    widget = curve(POINTS, caption="</script><b>")
    page = show("results", widget)
    assert "live" not in vars(widget)  # else the page would carry a widget's state
    soup = BeautifulSoup(page._repr_html_(), "html.parser")
    assert "depth and beta" in soup.select_one(".vaekit-widget noscript").text
    assert not soup.select("b, [src], [href]")
    assert len(soup.select("script")) == 2
    assert show("store", widget) is widget
    bundle, *_ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert widget.live.get_state(["kind", "data", "value"]) == held(widget)


def test_several_budgets_are_an_axis_and_one_is_the_caption():
    several = by_budget("store", [(SHORT, POINTS[:3]), (SHORT, POINTS), (LONG, [])], diagonals="D + R")
    state = held(several)
    assert state["value"] == [SHORT, 1, 0.1]  # the middle of the first
    assert state["data"]["axes"][0]["values"] == [SHORT, f"{SHORT} (2)"]
    assert len(state["data"]["points"]) == 3 + len(POINTS)
    assert held(by_budget("store", [(LONG, []), (SHORT, POINTS)]))["data"]["caption"] == SHORT
    one = held(by_budget("store", [(SHORT, iter(POINTS))], start={"depth": 3, "beta": 0.1}))
    assert (one["value"], one["data"]["caption"]) == ([3, 0.1], SHORT)
    assert isinstance(by_budget("results", [(SHORT, POINTS)]), Page)
    for nothing in ([], [(SHORT, [point(1, 1.0, series={})])]):
        assert "There is nothing to move through" in by_budget("store", nothing)._repr_html_()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_is_a_png_of_rows_with_white_between(channels):
    pictures = np.random.default_rng(0).integers(0, 200, (2, 3, 4, 5, channels)).astype(np.uint8)
    png = np.asarray(Image.open(io.BytesIO(grid_png(ImageGrid("0" * 64, 20, 1, ("a", "b"), pictures)))).convert("RGB"))
    assert png.shape == (2 * 5, 3 * 6, 3)
    assert (png[4::5] == 255).all()
    assert (png[:, 5::6] == 255).all()
    assert (png[5:9, 6:11] == pictures[1, 1]).all()


def test_a_grid_of_900_members_is_built_at_once_and_stays_small():
    numbers = {f"a number of a name that is long {i}": "0.123 ± 0.012" for i in range(12)}
    points = [
        of(LONG, point(i, j, picture=None, numbers=numbers, says="words " * 12))
        for i in range(30)
        for j in range(1, 31)
    ]
    begun = time.process_time()
    page = curve(points).static()._repr_html_()
    assert time.process_time() - begun < 2
    assert len(page) < 1_000_000


# ---- in a browser

PRESSED = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "Tab": 9, " ": 32, "End": 35, "Home": 36}


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
            beside: all({widget}, ".others")[0].getAttribute("d").split("M").length - 1,
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
        assert now["beside"] == 2  # depth 3, of training and test images, faintly
        assert now["ringed"] == [step, 3 + step]
        assert now["picture"] == [[f"1, {beta}", base64.b64encode(png(1)).decode(), "400"]]
        assert now["numbers"] == [["D (test), nats", f"71 ± {beta}"]]
        assert f"depth 1, beta {beta:g}: train at {10 / beta:.0f}" in now["graph"]
        page.slide(0, 0, "ArrowRight")
    page("all(0, 'input[type=radio]')[0].focus()")
    page.press("ArrowRight")
    bare = seen()  # depth 3 has no beta 1, and goes to the nearest that it has
    assert bare["value"] == "0.3"
    assert (bare["picture"], bare["marks"]) == ([], 4)
    assert bare["says"].startswith("3, 0.3")
    assert bare["ringed"] == [1, 3]
    page.slide(0, 0, "End")
    assert seen() == bare
    page("all(0, '.dot')[0].dispatchEvent(new MouseEvent('click'))")
    assert seen()["value"] == "0.1"
    assert seen(1) == other
    assert not tab.errors()
    assert all(url.startswith(("file:", "data:")) for url in tab.requests())


@pytest.mark.browser
def test_a_finger_can_move_it_and_a_phone_is_wide_enough(tab, tmp_path):
    points = [of("long " * 30, one) for one in POINTS] + [of("other " * 30, POINTS[0])]
    page = Opened(tab, tmp_path / "page.html", decoder(vae(), "A line."), curve(points, "A line."), width=390)
    assert page("document.documentElement.scrollWidth") <= 390
    sizes = page("widgets.flatMap((w) => [...w.querySelectorAll('input[type=range], button, label, select')]"
                 ".map((e) => e.getBoundingClientRect().height))")  # fmt: skip
    assert len(sizes) == 16
    assert min(sizes) >= 44
    widths = page("widgets.flatMap((w) => [...w.querySelectorAll('input[type=range]')].map((e) => e.offsetWidth))")
    assert min(widths) > 200
    names = page("widgets.flatMap((w) => [...w.querySelectorAll('input[type=range]')].map((e) => e.ariaLabel))")
    assert names == [*(f"z{i}" for i in range(1, 11)), "beta"]


def test_each_plot_holds_its_points_with_their_bars_and_diagonals_of_whole_sums():
    data = held(curve(TWO, diagonals="D + R"))["data"]
    assert [plot["of"] for plot in data["plots"]] == [[0], [1]]
    for plot in data["plots"]:
        x, y = plot["x"], plot["y"]
        for one in (one for one in data["points"] if one["place"][:1] == plot["of"]):
            for px, py, sd_x, sd_y in one["series"]:
                assert x["low"] < px - sd_x <= px + sd_x < x["high"]
                assert y["low"] < py - sd_y <= py + sd_y < y["high"]
        ends = np.array(plot["diagonals"])
        assert len(ends) >= 3
        assert (ends[:, [0, 2]] >= x["low"] - 1e-9).all()
        assert (ends[:, [0, 2]] <= x["high"] + 1e-9).all()
        assert (ends[:, [1, 3]] >= y["low"] - 1e-9).all()
        assert (ends[:, [1, 3]] <= y["high"] + 1e-9).all()
        sums = ends[:, 0] + ends[:, 1]
        assert sums == pytest.approx(ends[:, 2] + ends[:, 3])
        apart = float(plot["legend"].removeprefix("equal D + R, ").removesuffix(" apart"))
        assert np.diff(sums) == pytest.approx(apart)
        assert sums / apart == pytest.approx(np.round(sums / apart))
    assert [plot["diagonals"] for plot in held(curve(TWO))["data"]["plots"]] == [[], []]


@pytest.mark.browser
def test_a_reader_chooses_the_curve_and_no_curve_holds_two_budgets(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", curve(TWO, start={"budget": LONG, "depth": 3, "beta": 3}), width=390)

    def seen() -> dict:
        return page("""{
            places: all(0, ".dot title").map((title) => title.textContent),
            value: all(0, "input[type=range]")[0].getAttribute("aria-valuetext"),
            stops: Number(all(0, "input[type=range]")[0].max) + 1,
            depths: all(0, "input[type=radio]").filter((radio) => !radio.disabled).length,
            shown: all(0, "select")[0].selectedOptions[0].textContent,
        }""")

    first = seen()
    assert first["places"] == [f"budget {LONG}, depth 3, beta {beta}" for beta in ("0.1", "1", "3")]
    assert (first["value"], first["stops"], first["depths"], first["shown"]) == ("3", 3, 2, LONG)
    page("all(0, 'select')[0].focus()")
    page.press("ArrowDown")
    other = seen()
    assert other["places"] == [f"budget {SHORT}, depth 1, beta {beta}" for beta in ("0.1", "0.5")]
    assert (other["value"], other["stops"], other["depths"], other["shown"]) == ("0.5", 2, 1, SHORT)
    assert page("all(0, '.whole')[0].checkVisibility() && all(0, '.whole')[0].innerText") == SHORT
    page.slide(0, 0, "Home")
    assert seen()["value"] == "0.1"
    assert not tab.errors()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_bars_and_diagonals_lie_within_the_axes_behind_what_is_chosen(tab, tmp_path, width):
    start = {"budget": SHORT, "depth": 1, "beta": 0.1}
    page = Opened(tab, tmp_path / "page.html", curve(TWO, start=start, diagonals="D + R"), width=width)
    drawn = page("""(() => {
        const box = (e) => { const { x, y, width, height } = e.getBBox(); return [x, y, x + width, y + height]; };
        const [svg] = all(0, "svg[role=img]");
        return { axes: box(svg.querySelector("path.frame")), diagonals: box(svg.querySelector(".diagonal")),
            order: [...svg.children].map((e) => e.getAttribute("class")),
            bars: box(svg.querySelector(".bars")), marks: svg.querySelectorAll(".bars").length,
            dots: [...svg.querySelectorAll(".dot")].map((e) => e.transform.baseVal[0].matrix).map((m) => [m.e, m.f]),
            ticks: [...svg.querySelectorAll("text")].map((e) => e.getBoundingClientRect())
                .map((r) => [r.left, r.top, r.right, r.bottom]),
            legend: all(0, ".legend")[0].innerText }; })()""")
    left, top, right, bottom = drawn["axes"]
    for name in ("diagonals", "bars"):
        a, b, c, d = drawn[name]
        assert left - 0.01 <= a < c <= right + 0.01, name
        assert top - 0.01 <= b < d <= bottom + 0.01, name
    assert drawn["order"][0] == "diagonal"
    # Of the two points one has a spread, 3 of 5 across and 25 of 200 up: its bars are centred on it.
    (x, y), (other_x, other_y) = drawn["dots"]
    a, b, c, d = drawn["bars"]
    assert ((a + c) / 2, (b + d) / 2) == pytest.approx((x, y), abs=0.01)
    assert (c - a) / 2 == pytest.approx(3 / (5 - 2) * (x - other_x), abs=0.01)
    assert (d - b) / 2 == pytest.approx(25 / (260 - 200) * (y - other_y), abs=0.01)
    assert "standard deviation over seeds" in drawn["legend"]
    assert "equal D + R" in drawn["legend"]
    for i, (a, b, c, d) in enumerate(drawn["ticks"]):
        assert a >= 0
        assert c <= width
        for e, f, g, h in drawn["ticks"][:i]:
            assert c <= e or g <= a or d <= f or h <= b, "labels overlap"
    # Where there is one seed, there are no bars, nor words of them.
    page("all(0, 'select')[0].focus()")
    page.press("Home")
    assert page("[all(0, '.bars').length, all(0, '.legend')[0].innerText.includes('deviation')]") == [0, False]


@pytest.mark.browser
def test_a_screen_reader_hears_one_sentence_when_the_slider_rests(tab, tmp_path):
    says = [f"beta {beta:g}, 1 layer: test D 76.1, R 36.9 nats per image, 1 seed" for beta in (0.1, 0.3, 1.0)]
    points = [point(1, beta, says=text) for beta, text in zip((0.1, 0.3, 1.0), says, strict=True)]
    page = Opened(tab, tmp_path / "page.html", curve(points, start={"depth": 1, "beta": 0.1}))
    tab.evaluate("""(() => { window.heard = []; const live = document.querySelector("[role=status]");
        new MutationObserver(() => heard.push(live.textContent)).observe(live, { childList: true }); })()""")
    wait = "new Promise((done) => setTimeout(() => done(heard), 900))"
    assert tab.evaluate(wait) == []  # a page that opens says nothing
    assert page("getComputedStyle(all(0, '[role=status]')[0]).display != 'none'")
    for _ in range(3):  # a drag: to and fro, without rest
        page("""[2, 1, 0, 1, 2].forEach((to) => { const [slider] = all(0, "input[type=range]");
            slider.value = to; slider.dispatchEvent(new InputEvent("input", { bubbles: true })); })""")
    assert tab.evaluate("heard.length") == 0
    assert tab.evaluate(wait) == [says[2]]
    page.slide(0, 0, "ArrowLeft")
    assert tab.evaluate(wait) == [says[2], says[1]]
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = {node["role"]["value"]: node["name"]["value"] for node in nodes if node.get("name", {}).get("value")}
    assert named["slider"] == "beta"
    assert named["radio"] == "1"
    images = [node["name"]["value"] for node in nodes if node["role"]["value"] == "image" and not node["ignored"]]
    plot, picture = images  # and no more: the legend's marks are not heard
    assert plot.startswith("Plot of distortion D (nats per image) over rate R (nats per image): train and test")
    assert "a point for each beta of 0.1, 0.3, 1. Ringed is depth 1, beta 0.3: train at" in plot
    assert picture == "1, 0.3"


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_jumps_where_a_member_has_no_picture(tab, tmp_path, width):
    """Of the same curve: one without a picture, and with fewer numbers."""
    numbers = {"D (test)": "71", "share": "0.5"}
    points = [point(1, beta, numbers=numbers, alt="a caption that is long: " + "words " * 20) for beta in (0.1, 1.0)]
    points[1] |= {"picture": None, "alt": "No pictures are stored of this member.", "numbers": {"D (test)": "72"}}
    alone = [point(1, 0.1, picture=None, alt="None here.")]
    both = curve(points, start={"depth": 1, "beta": 0.1}), curve(alone)
    page = Opened(tab, tmp_path / "page.html", *both, width=width)

    def seen() -> list:
        return page("""["table", "tr:last-child th", ".found", ".parts", ""].map((selector) => {
            const box = (selector ? all(0, selector)[0] : widgets[0]).getBoundingClientRect();
            return [box.left, box.top, box.height].map((each) => Math.round(each)); })""")

    before = seen()
    page.slide(0, 0, "ArrowRight")
    assert page("all(0, 'img').length") == 0
    assert page("all(0, '.room')[0].innerText") == "No pictures are stored of this member."
    assert page("all(0, 'td').map((cell) => cell.innerText)") == ["72", "–"]
    assert seen() == before
    # A curve without any has the sentence alone, and no room.
    assert page("[all(1, '.room').length, all(1, '.found')[0].innerText.split('\\n')[0]]") == [0, "None here."]
    assert page("all(1, '.found p')[0].offsetHeight") < 40


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


HOLES = [{"axes": {"model": model, "beta": beta}} for model, beta in (("dense", 0.1), ("dense", 1.0), ("conv", 0.1))]
ABSENT = "There is no trained member at model conv, beta 1."


@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
def test_every_value_of_an_axis_can_be_moved_to(tab, tmp_path, kind):
    values, labels = KINDS[kind]
    first = curve([point(1, 1.0, axes={"what": value, "beta": beta}) for value in values for beta in (1, 2)])
    last = curve([point(1, 1.0, axes={"beta": beta, "what": value}) for value in values for beta in (1, 2)])
    page = Opened(tab, tmp_path / "page.html", first, last)
    for number, label in enumerate(labels):
        page(f"""(() => {{ const [radio] = all(0, "input[type=radio]").slice({number}); radio?.click(); }})()""")
        assert f"what {label}, beta" in page("all(0, 'svg[role=img]')[0].getAttribute('aria-label')")
        page(f"""(() => {{ const [slider] = all(1, "input[type=range]"); slider.value = {number};
            slider.dispatchEvent(new InputEvent("input", {{ bubbles: true }})); }})()""")
        assert page("all(1, 'input[type=range]')[0].getAttribute('aria-valuetext')") == label
        assert page("[0, 1].map((i) => all(i, '.ring').length)") == [2, 2]
    assert not tab.errors()


# A stand-in for JupyterLab's model: `set` is a kernel that moves the widget.
LAB = """(async () => {
    const module = await import(URL.createObjectURL(new Blob([MODULE], { type: "text/javascript" })));
    const el = document.createElement("div");
    document.querySelector("main").replaceChildren(el);
    const state = STATE;
    const listeners = new Set();
    window.lab = { el, set: (name, value) => { state[name] = value; listeners.forEach((tell) => tell()); },
        get: (name) => state[name], save_changes: () => {},
        on: (event, tell) => listeners.add(tell), off: (event, tell) => listeners.delete(tell) };
    module.default.render({ el, model: window.lab });
})()"""


def in_lab(tab, tmp_path, state) -> None:
    """Show a widget as JupyterLab does, in an empty page."""
    (tmp_path / "lab.html").write_text('<!doctype html><html lang="en"><title>Lab</title><main></main></html>')
    tab.open((tmp_path / "lab.html").as_uri())
    tab.evaluate(LAB.replace("MODULE", json.dumps(movable.Live._esm)).replace("STATE", json.dumps(state)))


@pytest.mark.browser
def test_a_place_without_a_member_says_so_in_place_of_the_picture(tab, tmp_path):
    points = [point(1, 1.0, **place) for place in HOLES]
    in_lab(tab, tmp_path, held(curve(points, start={"model": "conv", "beta": 1.0})))
    assert tab.evaluate("lab.el.querySelector('.found').innerText") == ABSENT
    assert tab.evaluate("lab.el.querySelectorAll('img, table, .ring').length") == 0
    tab.evaluate("lab.set('value', ['dense', 1])")
    assert tab.evaluate("lab.el.querySelectorAll('img').length") == 1
    tab.evaluate("lab.set('value', ['conv', 1])")
    assert tab.evaluate("lab.el.querySelector('.found').innerText") == ABSENT
    assert tab.evaluate("lab.el.querySelectorAll('img').length") == 0
    tab.evaluate("lab.set('value', ['lstm', 3])")  # not even on the axes
    assert tab.evaluate("lab.el.querySelector('.found').innerText").endswith("at model lstm, beta 3.")
    assert not tab.errors()


FAULTS = {
    "a code of another size": ("decoder", [1.0, 2.0], "give 10 finite numbers"),
    "a code that is no number": ("decoder", [None] * 10, "give 10 finite numbers"),
    "a code beyond every number": ("decoder", [3e38] * 10, "is not finite"),
    "a place of another size": ("curve", ["dense"], "give a value for each of model, beta"),
}


@pytest.mark.browser
@pytest.mark.parametrize("fault", FAULTS)
def test_an_exception_stands_in_place_of_the_picture_until_a_slider_moves(tab, tmp_path, fault):
    kind, value, says = FAULTS[fault]
    state = held(decoder(vae()) if kind == "decoder" else curve([point(1, 1.0, **place) for place in HOLES]))
    in_lab(tab, tmp_path, state)
    pictures = "lab.el.querySelectorAll('canvas, svg[role=img], img').length"
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
    in_lab(tab, tmp_path, state | {"data": state["data"] | {"weights": "no base64"}})
    assert "Error" in tab.evaluate("lab.el.querySelector('[role=alert]').innerText")
    assert tab.evaluate("lab.el.querySelectorAll('canvas').length") == 0
