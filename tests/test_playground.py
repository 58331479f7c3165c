"""The playground: what Python makes of points, and what a reader does with them.

In a page, opened as a file with the network off and moved by the keyboard, and as JupyterLab shows it.
"""

import base64
import io
import json
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_movable import Opened, in_lab, vae
from tiny import held

from vaekit.store import ImageGrid
from vaekit.widgets import playground, strip

ROWS = ("test image", "reconstruction", "nearest training image")
MODEL = vae((1, 28, 28), depth=1)
CODES = SimpleNamespace(mean=np.random.default_rng(0).normal(size=(8, 10)).round(3), kl=np.linspace(0, 2, 10)[::-1])


def grid(shade: int, rows=ROWS) -> ImageGrid:
    """Rows of eight pictures, the first the same in every grid."""
    images = np.full((len(rows), 8, 28, 28, 1), shade, np.uint8)
    images[0] = np.arange(8, dtype=np.uint8)[:, None, None, None] * 20
    return ImageGrid("0" * 64, 20, 1, tuple(rows), images)


def point(layers: int, beta: float, **changes: Any) -> dict[str, Any]:
    early, end = ({"test": (10 / beta + k, 60 + layers + 9 * k), "train": (10 / beta, 50 + layers)} for k in (1, 0))
    fields = {"places": {100: early, 500: end}, "numbers": {"D (test), nats": f"{60 + layers} ± 1"}}
    fields |= {"says": f"beta {beta:g}, {layers} layers: D {60 + layers}"}
    return {"axes": {"layers": layers, "beta": beta}} | fields | changes


POINTS = [point(layers, beta) for layers in (1, 3) for beta in (0.1, 0.3, 1.0, 3.0) if (layers, beta) != (3, 3.0)]
HOW = {"x": "rate R (nats)", "y": "distortion D (nats)", "colour": "beta", "shape": "layers", "along": "beta"}
HOW |= {"series": ("test", "train"), "diagonals": "D + R"}
LONG, SHORT = "CV(16,384): 20,000 steps of 128", "CV(4,096): 1,000 steps of 64"


def play(points=POINTS, **how: Any):
    return playground(points, **(HOW | how))


def rich(**how: Any):
    """Of one budget: A has pictures, a decoder and codes, B another decoder, others nothing; and a smaller budget."""
    other = vae((1, 28, 28), depth=1, hidden=16)
    points = [dict(one, budget=LONG, why="No pictures here.", why_not="No decoder here.") for one in POINTS]
    points[0] |= {"grid": grid(90), "model": MODEL, "codes": CODES, "of": "seed 0"}
    points[1] |= {"grid": grid(130), "model": other, "codes": CODES}
    points += [dict(point(1, beta), budget=SHORT, faint="1,000 of 20,000 steps") for beta in (0.1, 1.0)]
    return play(points, start=[{"layers": 1, "beta": 0.1}, {"layers": 1, "beta": 0.3}], **how)


# ---- what Python makes of points


def at(beta: Any) -> dict[str, Any]:
    return point(1, 1.0, axes={"layers": 1, "beta": beta})


def placed(*pair: Any) -> list[dict[str, Any]]:
    return [point(1, 3.0, places={500: {"test": pair}})]


WRONG: dict[str, list[dict[str, Any]]] = {
    "there are no points": [],
    "differ in their axes": [*POINTS, {"axes": {"beta": 1}, "places": {}}],
    "a point has no places": [{"axes": {"beta": 1, "layers": 1}}],
    "two points are at layers 1, beta 0.1": [*POINTS, point(1, 0.1)],
    "at layers 1, beta 3 is": placed(float("nan"), 1),
    r"is \(1,\); give x, y": placed(1),
    r"is \(1, 2, 3\); give x, y": placed(1, 2, 3),
    "leave out what is not finite": placed(1e308, 1, 1e308, 1),
    "3 series": [point(1, 1.0, places={5: dict.fromkeys("abc", (1, 1))})],
    "no point has coordinates": [point(1, 1.0, places={5: {"test": None}})],
    "a snapshot of the point at layers 1, beta 1 is 'end'": [point(1, 1.0, places={"end": {"test": (1, 1)}})],
    "is -1; give a finite number": [point(1, 1.0, places={-1: {"test": (1, 1)}})],
    "is nan; give a finite number": [point(1, 1.0, places={float("nan"): {"test": (1, 1)}})],
    "a grid is bytes; give an ImageGrid": [point(1, 1.0, grid=b"GIF89a")],
    "is of the groups 'a' and 'b'": [point(1, 1.0, group="a"), point(1, 2.0, group="b")],
    "beta is nan at a point": [at(float("nan"))],
    "beta is inf at a point": [at(float("inf"))],
    "beta is {} at a point": [at({})],
    r"beta is tensor\(1.\) at a point": [at(torch.tensor(1.0))],
    "beta is True and 1, which no reader": [at(True), at(1)],
    "beta is False and 0.0, which no reader": [at(False), at(0.0), at(2)],
    "beta is '1' and 1, which no reader": [at("1"), at(1)],
    "beta is None and 'None', which no reader": [at(None), at(3), at("None")],
    r"two points are at layers 1, beta \(1, 2\)": [at((1, 2)), at([1, 2])],
    "layers has 9 values, and there are 8 marks": [point(layers, 1.0) for layers in range(9)],
    "is in training mode": [point(1, 1.0, model=vae().train())],
}


@pytest.mark.parametrize("says", WRONG)
def test_points_that_no_plane_can_hold_are_refused(says):
    with pytest.raises(ValueError, match=says) as refused:
        play(WRONG[says])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("how", [{"colour": "K"}, {"shape": "K"}, {"along": "K"}, {"colour": ""}])
def test_a_look_that_is_no_axis_is_refused(how):
    with pytest.raises(ValueError, match="which is no axis; there are layers, beta"):
        play(**how)


def test_it_starts_where_it_is_told():
    assert held(play())["value"] == [0, len(POINTS) - 1]
    assert held(play(start=[{"layers": 3, "beta": np.float64(1)}, {"beta": 0.3}]))["value"] == [6, 1]
    first = [dict(POINTS[0], budget=LONG)]
    assert held(play(first))["value"] == [0, 0]
    others = [dict(point, budget=SHORT) for point in POINTS[1:3]]
    assert held(play([*first, *others]))["value"] == [0, 1]  # two, where the first budget has but one
    for start in ({"layers": 2}, {"depth": 1}):
        with pytest.raises(ValueError, match="values of a point's layers, beta"):
            play(start=[start])


# Of an axis, values of each kind, and the texts by which a reader knows them.
KINDS = {
    "names": (["dense", "conv"], ["dense", "conv"]),
    "truth": ([True, False], ["False", "True"]),
    "numbers and none": ([4096, None, 16384], ["4096", "None", "16384"]),
    "whole numbers": ([3, 1, 2_000_001, 2_000_000], ["1", "3", "2000000", "2000001"]),
    "whole numbers of any size": ([2**60, 2**60 + 1], [f"{2**60}", f"{2**60 + 1}"]),
    "numbers": ([1.0, 0.1, np.float32(0.5), np.int64(2)], ["0.1", "0.5", "1", "2"]),
    "a grid of betas": ([0.125892541179, 0.158489319246], ["0.126", "0.158"]),
    "numbers side by side": ([0.1, 0.1 + 1e-8], ["0.1", "0.10000001"]),
    "pairs": ([(64, 128), (0.1, "x")], ["(64, 128)", "(0.1, x)"]),
    "one place": (["alone"], ["alone"]),
}


@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
def test_an_axis_has_values_of_any_kind_and_each_can_be_moved_to(tab, tmp_path, kind):
    values, labels = KINDS[kind]
    points = [point(1, 1.0, axes={"what": value, "beta": beta}) for value in values for beta in (1.0, 2.0, 3.0)]
    shown = play(points, shape="", colour="what")
    assert held(shown)["data"]["axes"][0]["labels"] == labels
    page = Opened(tab, tmp_path / "page.html", shown)
    for number, label in enumerate(labels):
        page(f"""(() => {{ const [list] = all(0, "select"), [slider] = all(0, "input[aria-label='what of A']");
            const radio = all(0, ".movers .control:nth-child(2) input")[{number}];
            const moved = (to) => {{ slider.value = to; slider.dispatchEvent(new InputEvent("input")); }};
            if (slider) moved({number});
            else if (list) {{ list.value = {number}; list.dispatchEvent(new Event("change")); }}
            else if ({len(labels)} > 1) radio.click(); }})()""")
        title = page("all(0, '.head .title')[0].textContent")
        assert label in title or len(labels) == 1, (label, title)
    assert not tab.errors()


def test_a_row_of_pictures_that_members_share_is_carried_once():
    data = held(rich())["data"]
    assert data["labels"] == [*ROWS]
    first, second = (dict(one["rows"]) for one in data["points"][:2])
    assert first[0] == second[0]
    assert first[1] == first[2] != second[1]  # two rows of one shade
    assert [one["columns"] for one in data["strips"]] == [8] * 3
    assert len(data["points"][0]["codes"]["mean"]) == 8


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_is_a_png_of_its_images_with_nothing_between(channels):
    images = np.random.default_rng(0).integers(0, 200, (3, 4, 5, channels)).astype(np.uint8)
    made = strip(images)
    assert {name: made[name] for name in ("columns", "width", "height")} == {"columns": 3, "width": 5, "height": 4}
    content = base64.b64decode(made["src"].partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    assert shown.shape == (4, 3 * 6, 4)
    assert (shown[:, 5::6, 3] == 0).all()
    for i, image in enumerate(images):
        assert (shown[:, 6 * i : 6 * i + 5, :3] == image).all()
        assert (shown[:, 6 * i : 6 * i + 5, 3] == 255).all()
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)  # no colour is left to be transparent
    content = base64.b64decode(strip(every)["src"].partition(",")[2])
    assert (np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))[..., 3] == 255).all()


def test_a_grid_of_900_members_is_built_at_once_and_a_page_stays_small():
    numbers = {f"a number of a name that is long {i}": "0.123 ± 0.012" for i in range(12)}
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3)).astype(np.uint8)
    points = [
        point(
            i,
            j,
            numbers=numbers,
            says="words " * 12,
            grid=ImageGrid("0" * 64, 1, 1, ROWS, noise + i) if j < 3 else None,
        )
        for i in range(30)
        for j in range(1, 31)
    ]
    begun = time.process_time()
    page = play(points, shape="").static()._repr_html_()
    assert time.process_time() - begun < 10
    state = held(play(points, shape=""))
    assert "Pictures of 56 members are left out, to keep the page small." in state["data"]["caption"]
    assert sum(bool(one["rows"]) for one in state["data"]["points"]) == 4
    assert len(json.dumps(state["data"]["strips"])) < 400_000
    assert len(page) < 1_200_000


# ---- in a browser


def pixels(page: Opened, selector: str) -> np.ndarray:
    """The pixels (H, W) of a grey canvas, in [0, 1]."""
    height, width, values = page(f"""(() => {{ const [c] = all(0, "{selector}");
        return [c.height, c.width, [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]]; }})()""")
    return np.array(values).reshape(height, width, 4)[..., 0] / 255


def decoded(code, model=MODEL) -> np.ndarray:
    with torch.no_grad():
        return model.decode(torch.tensor(np.array([code]), dtype=torch.float32)).mean[0, 0].clamp(0, 1).numpy()


def tab_of(page: Opened, name: str) -> None:
    page(f"all(0, '[role=tab]').find((tab) => tab.textContent === '{name}').click()")
    for _ in range(50):
        if "Loading" not in page("all(0, '.panel')[0].innerText"):
            return
        time.sleep(0.05)


def titles(page: Opened) -> list[str]:
    return page("all(0, '.head .title').map((head) => head.innerText.replace(/\\s+/g, ' '))")


@pytest.mark.browser
def test_the_keyboard_alone_moves_a_and_b_and_what_stands_beside_them(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", rich())
    assert titles(page) == ["A layers 1, beta 0.1", "B layers 1, beta 0.3"]
    page("all(0, '.plane')[0].focus()")
    page.press("ArrowLeft")  # of layers 1, beta 0.3 lies left of beta 0.1
    assert titles(page)[0] == "A layers 1, beta 0.3"
    page.press("ArrowLeft", 2)
    page.press("Enter")  # leaves A there; B moves now, from where it is
    assert titles(page) == ["A layers 1, beta 3", "B layers 1, beta 0.3"]
    heard = page("new Promise((done) => setTimeout(() => done(all(0, '.spoken')[0].textContent), 900))")
    assert heard == "A is pinned: beta 3, 1 layers: D 61. The arrow keys move B now."
    page.press("ArrowUp")
    assert titles(page)[0] == "A layers 1, beta 3"
    assert titles(page)[1].startswith("B layers 3")
    page.press("Enter")
    page.press("ArrowUp")
    assert titles(page)[0].startswith("A layers 3")
    page("all(0, '.letters input')[1].focus()")
    page.press(" ")
    page("all(0, '[aria-label=\"beta of B\"]')[0].focus()")
    page.press("Home")
    assert titles(page)[1] == "B layers 3, beta 0.1"
    assert page("all(0, '[aria-label=\"beta of B\"]')[0].getAttribute('aria-valuetext')") == "0.1"
    page("all(0, '[role=tab]')[0].focus()")
    page.press("ArrowRight")
    assert page("document.activeElement.textContent") == "Sample"
    assert page("all(0, '[role=tab]').map((tab) => tab.ariaSelected)") == ["false", "true", "false", "false"]
    assert not tab.errors()
    assert len(tab.requests()) == len([url for url in tab.requests() if url.startswith(("file:", "data:"))])


@pytest.mark.browser
def test_a_click_pins_the_letter_that_moves_and_with_shift_the_other(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", rich())

    def click(title: str, shift: bool = False) -> None:
        page(f"""(() => {{ const there = all(0, ".member").find((one) => one.textContent.startsWith("{title}"));
            const mark = there.querySelector(".spot");
            const box = mark.getBoundingClientRect();
            all(0, ".plane")[0].dispatchEvent(new MouseEvent("click", {{ bubbles: true, shiftKey: {str(shift).lower()},
                clientX: box.x + box.width / 2 + 3, clientY: box.y + box.height / 2 }})); }})()""")

    click("layers 3, beta 0.1")
    assert titles(page) == ["A layers 3, beta 0.1", "B layers 1, beta 0.3"]
    click("layers 1, beta 3", shift=True)
    assert titles(page)[1] == "B layers 1, beta 3"
    assert page("all(0, '.plane .letter').map((text) => text.textContent)") == ["A", "B"]
    rows = page("all(0, '.numbers tr').map((row) => [...row.children].map((cell) => cell.innerText))")
    assert rows[0] == ["", "A", "B"]
    assert rows[1] == ["D (test), nats", "63 ± 1", "61 ± 1"]


@pytest.mark.browser
def test_budgets_and_snapshots_choose_what_stands_in_full_colour(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", rich())
    count = "['full', 'other', 'faint'].map((kind) => all(0, `.member.${kind}`).length)"
    assert page(count) == [7, 2, 2]
    ticks = "all(0, '.plane text').map((text) => text.textContent)"
    before = page(ticks)
    page("all(0, '[aria-label=steps]')[0].focus()")
    page.press("ArrowLeft")
    assert page("all(0, '[aria-label=steps]')[0].getAttribute('aria-valuetext')") == "100"
    assert page(ticks) != before
    assert "after 100 steps. A is layers 1, beta 0.1: test at 101, 70" in page(
        "all(0, '.plane')[0].getAttribute('aria-label')"
    )
    rows = "all(0, '.numbers tbody tr').map((row) => [...row.children].map((cell) => cell.innerText))"
    assert page(rows)[:2] == [
        ["distortion D (nats), test after 100 steps", "70", "70"],
        ["rate R (nats), test after 100 steps", "101", "34.33"],
    ]
    heard = page("new Promise((done) => setTimeout(() => done(all(0, '.spoken')[0].textContent), 900))")
    assert heard == "A: at the end, beta 0.1, 1 layers: D 61. The plane is after 100 steps."
    assert page(rows)[-1] == ["at the end: D (test), nats", "61 ± 1", "61 ± 1"]
    page.press("End")
    assert page(ticks) == before
    assert page(rows) == [["D (test), nats", "61 ± 1", "61 ± 1"]]
    page("all(0, 'select')[0].focus()")
    page.press("ArrowDown")
    assert page(count) == [2, 7, 2]
    assert page("all(0, '.legend')[0].innerText").count("undertrained, 1,000 of 20,000 steps") == 1
    assert titles(page)[0] == "A layers 1, beta 0.1"
    assert SHORT not in page("all(0, '.head')[0].innerText")  # it is what the list says
    page("all(0, '.plane')[0].focus()")


@pytest.mark.browser
def test_pictures_stand_side_by_side_and_a_member_without_says_who_has_some(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", rich())
    rows = "all(0, '.column').map((c) => [...c.querySelectorAll('.naming')].map((row) => row.innerText))"
    assert page(rows) == [[*ROWS]] * 2
    alts = page("all(0, '.column img').map((image) => image.alt)")
    assert alts[0] == "test image of A, from the left"
    assert len(alts) == 2 * 2 * 3
    page("all(0, '[aria-label=\"beta of A\"]')[0].focus()")
    page.press("End")
    said = page("all(0, '.column')[0].innerText")
    assert said.startswith("No pictures here. 2 members can; the nearest is layers 1, beta 0.3.")
    page("all(0, '.column button')[0].focus()")
    page.press(" ")
    assert titles(page)[0] == "A layers 1, beta 0.3"
    assert page("document.activeElement.textContent") == "Reconstruct"
    tab_of(page, "Sample")
    assert page("all(0, '.samples').map((one) => one.querySelectorAll('canvas').length)") == [16, 16]
    before = pixels(page, ".samples canvas")
    assert (before == pixels(page, ".column + .column canvas")).all()  # the same noise of the same decoder
    page("all(0, '.shared button')[0].focus()")
    page.press(" ")
    assert (pixels(page, ".samples canvas") != before).any()
    assert page("document.activeElement.textContent") == "New samples"


@pytest.mark.browser
def test_no_member_is_offered_that_the_plane_does_not_have(tab, tmp_path):
    here = [dict(point(1, beta), budget="b", group="MNIST", why="No pictures here.") for beta in (0.1, 1.0)]
    here.append(dict(point(1, 2.0), budget="b", group="MNIST", grid=grid(9), places={}))  # never at its end
    away = dict(point(1, 3.0), budget="other", group="SVHN", grid=grid(7))
    page = Opened(tab, tmp_path / "page.html", play([*here, away], start=[{"beta": 0.1}, {"beta": 1.0}]))
    said = "all(0, '.column').map((column) => column.innerText)"
    assert page(said) == ["No pictures here. No other member on this plane has them here."] * 2
    assert page("all(0, '.column button').length") == 0
    page("all(0, '[aria-label=\"beta of A\"]')[0].focus()")
    page.press("End")
    assert titles(page)[0] == "A beta 1"
    assert page("all(0, '.plane .letter').length") == 2
    page("all(0, 'select')[0].focus()")
    page.press("ArrowDown")
    assert titles(page) == ["A beta 3", "B beta 3"]
    assert page("all(0, '.plane .letter').length") == 2


@pytest.mark.browser
def test_a_traversal_is_torchs_to_the_last_pixel(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", rich())
    tab_of(page, "Traverse")
    code = list(CODES.mean[0])
    canvas = ".column canvas"
    assert decoded(code).std() > 0.1  # else any picture would do
    assert np.abs(pixels(page, canvas) - decoded(code)).max() <= 1 / 255
    # By their rates: the first tells most, the last is dead.
    names = page("all(0, '.column:first-child .controls .control > span:first-child').map((name) => name.innerText)")
    assert names == [f"z{i}" for i in range(1, 11)]
    assert page("all(0, '.column:first-child .dead').length") == 1
    assert "z10 of A, 0 nats, dead" in page("all(0, '.dead input')[0].getAttribute('aria-label')")
    page("all(0, '.column input[type=range]')[2].focus()")
    page.press("End")
    code[2] = float(page("all(0, '.column input[type=range]')[2].max"))
    assert np.abs(pixels(page, canvas) - decoded(code)).max() <= 1 / 255
    page("all(0, '.pad')[0].focus()")
    page.press("ArrowRight")
    page.press("ArrowUp", 2)
    code[0], code[1] = round(code[0] + 0.1, 1), round(round(code[1] + 0.1, 1) + 0.1, 1)
    shown = page(
        "all(0, '.column input[type=range]').slice(0, 2).map((slider) => slider.getAttribute('aria-valuetext'))"
    )
    assert [float(text.replace("−", "-")) for text in shown] == [code[0], code[1]]
    assert np.abs(pixels(page, canvas) - decoded(code)).max() <= 3 / 255
    page("all(0, '.images input')[3].focus()")
    page.press(" ")
    assert np.abs(pixels(page, canvas) - decoded(CODES.mean[3])).max() <= 1 / 255
    assert page("document.activeElement.ariaLabel") == "test image 4"
    assert not tab.errors()


@pytest.mark.browser
def test_a_walk_ends_at_the_two_codes(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", rich())
    tab_of(page, "Walk")
    page("all(0, '.choice:nth-child(2) input')[5].focus()")
    page.press(" ")
    for key, share in (("Home", 0.0), ("End", 1.0)):
        page("all(0, '[aria-label=t]')[0].focus()")
        page.press(key)
        wanted = decoded(CODES.mean[0] + share * (CODES.mean[5] - CODES.mean[0]))
        assert np.abs(pixels(page, ".walker") - wanted).max() <= 1 / 255
    frames = "all(0, '.column:first-child .frames canvas').map((frame) => frame.classList.contains('now'))"
    assert page(frames) == [False] * 6 + [True]
    page("all(0, '.frames canvas')[3].click()")
    wanted = decoded((CODES.mean[0] + CODES.mean[5]) / 2)
    assert np.abs(pixels(page, ".walker") - wanted).max() <= 1 / 255
    assert not tab.errors()


@pytest.mark.browser
def test_a_screen_reader_hears_one_sentence_when_nothing_moves_any_more(tab, tmp_path):
    page = Opened(tab, tmp_path / "page.html", rich())
    tab.evaluate("""(() => { window.heard = []; const live = document.querySelector(".spoken");
        new MutationObserver(() => heard.push(live.textContent)).observe(live, { childList: true }); })()""")
    wait = "new Promise((done) => setTimeout(() => done(heard), 900))"
    assert tab.evaluate(wait) == []  # a page that opens says nothing
    for _ in range(3):  # a drag: to and fro, without rest
        page("""[2, 1, 0, 1, 2].forEach((to) => { const [slider] = all(0, "[aria-label='beta of A']");
            slider.value = to; slider.dispatchEvent(new InputEvent("input", { bubbles: true })); })""")
    assert tab.evaluate("heard.length") == 0
    assert tab.evaluate(wait) == ["A: beta 1, 1 layers: D 61"]
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = {}
    for node in nodes:
        named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value"))
    assert named["slider"] == ["beta of A", "steps"]
    assert named["tab"] == ["Reconstruct", "Sample", "Traverse", "Walk"]
    (plane,) = named["application"]
    assert plane.startswith(
        "Plot of distortion D (nats) over rate R (nats): 7 members. A is layers 1, beta 1: test at 10, 61"
    )


@pytest.mark.browser
def test_a_phone_is_wide_enough_and_a_finger_can_move_it(tab, tmp_path):
    tab.call("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        page = Opened(tab, tmp_path / "page.html", rich(caption="A line."), width=390)
        for name in ("Reconstruct", "Sample", "Traverse", "Walk"):
            tab_of(page, name)
            assert page("document.documentElement.scrollWidth") <= 390, name
            small = page("""all(0, "input[type=range], button, label, select").filter((e) => e.checkVisibility()
                && e.getBoundingClientRect().height < 44).map((e) => e.outerHTML)""")
            assert not small, name
        tops = page("['.plane', '.movers', '.right'].map((part) => all(0, part)[0].getBoundingClientRect().top)")
        assert tops == sorted(tops)
        (a, b) = page("all(0, '.column').map((column) => column.getBoundingClientRect().top)")
        assert a == b  # side by side there, too
    finally:
        tab.call("Emulation.setTouchEmulationEnabled", enabled=False)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_ticks_bars_and_diagonals_lie_within_the_axes(tab, tmp_path, width):
    spread = [
        point(1, beta, places={5: {"test": (1e3 * beta, 70, 3, 25), "train": (7, 50)}}) for beta in (0.1, 1.0, 3.0)
    ]
    page = Opened(tab, tmp_path / "page.html", play(spread), width=width)
    drawn = page("""(() => {
        const box = (e) => { const { x, y, width, height } = e.getBBox(); return [x, y, x + width, y + height]; };
        const [svg] = all(0, ".plane");
        return { axes: box(svg.querySelector("path.frame")), diagonals: box(svg.querySelector(".diagonal")),
            bars: box(svg.querySelector(".bars")),
            ticks: [...svg.querySelectorAll("text")].map((e) => e.getBoundingClientRect())
                .map((r) => [r.left, r.top, r.right, r.bottom]), legend: all(0, ".legend")[0].innerText }; })()""")
    left, top, right, bottom = drawn["axes"]
    for name in ("diagonals", "bars"):
        a, b, c, d = drawn[name]
        assert left - 0.01 <= a < c <= right + 0.01, name
        assert top - 0.01 <= b < d <= bottom + 0.01, name
    assert "equal D + R" in drawn["legend"]
    for i, (a, b, c, d) in enumerate(drawn["ticks"]):
        assert a >= 0
        assert c <= width
        for e, f, g, h in drawn["ticks"][:i]:
            assert c <= e or g <= a or d <= f or h <= b, "labels overlap"


@pytest.mark.browser
@pytest.mark.parametrize("values", [[1e-6, 2e-6], [1e6, 1e6 + 100], [1e20], [0.0], [-1e250, 1e250]])
def test_a_plane_has_ticks_that_differ_whatever_the_range(tab, tmp_path, values):
    points = [point(1, float(k), places={5: {"test": (value, value)}}) for k, value in enumerate(values, 1)]
    page = Opened(tab, tmp_path / "page.html", play(points))
    texts = page("all(0, '.plane text:not(.letter)').map((text) => text.textContent)")
    assert len(texts) >= 4
    assert all(len({*half}) == len(half) for half in (texts[: len(texts) // 2 - 1], texts[len(texts) // 2 - 1 : -2]))
    assert not tab.errors()


@pytest.mark.browser
def test_lines_are_members_too(tab, tmp_path):
    line = [[(layer, 20 - k * layer, 0, 1) for layer in range(11)] for k in (1, 2)]
    points = [
        {"axes": {"K": k}, "places": {0: {"ID": line[0]}, 5: {"ID": line[k - 1]}}, "says": f"K {k}"} for k in (1, 2)
    ]
    how = {"x": "layer", "y": "ID", "colour": "K", "stations": [f"layer {i}" for i in range(11)], "clock": "epochs"}
    page = Opened(tab, tmp_path / "page.html", playground(points, **how))
    assert page("all(0, '.member').length") == 2
    page("all(0, '.plane')[0].focus()")
    page.press("ArrowDown")
    assert titles(page) == ["A K 2", "B K 2"]
    page.press("ArrowLeft")  # lines lie above each other: sideways is along K
    assert titles(page)[0] == "A K 1"
    page.press("ArrowLeft")
    assert titles(page)[0] == "A K 1"
    page.press("ArrowRight")
    assert titles(page)[0] == "A K 2"
    rows = page("all(0, '.numbers tbody tr').map((row) => row.innerText.split('\\t'))")
    assert rows[10] == ["layer 10", "0.0 ± 1.0", "0.0 ± 1.0"]


# ---- as JupyterLab shows it


@pytest.mark.browser
def test_a_value_that_is_no_place_is_said_until_a_slider_moves(tab, tmp_path):
    in_lab(tab, tmp_path, held(rich()))
    for value in ([0], [0, 99], ["x", 1], [0, 0.5]):
        tab.evaluate(f"lab.set('value', {json.dumps(value)})")
        assert "give two whole numbers from 0 to 8" in tab.evaluate("lab.el.querySelector('[role=alert]').innerText")
        assert tab.evaluate("lab.el.querySelectorAll('.plane, img').length") == 0
    tab.evaluate("""(() => { const slider = lab.el.querySelector("[aria-label='beta of A']");
        slider.value = 1; slider.dispatchEvent(new InputEvent("input", { bubbles: true })); })()""")
    assert tab.evaluate("lab.el.querySelectorAll('.plane, [role=alert]').length") == 1
    assert tab.evaluate("lab.get('value')")[0] == 1
    # The arrow keys fold no section of a notebook: JupyterLab asks what has the focus, and what is around it.
    tab.evaluate("lab.el.querySelector('.plane').focus()")
    assert tab.evaluate("lab.el.querySelectorAll('.plane[data-lm-suppress-shortcuts]').length") == 1
    assert tab.evaluate("lab.el.dataset.lmSuppressShortcuts") == "true"


@pytest.mark.browser
def test_a_kernel_is_asked_once_for_what_is_not_carried(tab, tmp_path):
    points = [dict(one, key=f"{i:012x}", stored=True) for i, one in enumerate(POINTS)]
    shown = play(points, answer=lambda live, message: None, trains=["beta"])
    in_lab(tab, tmp_path, held(shown))
    asked = tab.evaluate("lab.sent")
    assert [(one["ask"], one["key"]) for one in asked] == [("member", "0" * 12), ("member", f"{len(POINTS) - 1:012x}")]
    said = "[...lab.el.querySelectorAll('.column')].map((column) => column.innerText)"
    assert tab.evaluate(said) == ["Asking the kernel …"] * 2
    strip = held(rich())["data"]["strips"][0]
    facts = {"rows": [["test image", strip]], "decoder": None, "codes": None, "why": "", "whyNot": "No weights."}
    tab.evaluate(f"lab.reply({{ id: {json.dumps(asked[0]['id'])}, facts: {json.dumps(facts)} }}, [])")
    assert tab.evaluate(said)[0].strip() == "test image"
    tab.evaluate(f"lab.reply({{ id: {json.dumps(asked[0]['id'])}, facts: {{ rows: [] }} }}, [])")  # it was forgotten
    assert tab.evaluate(said)[0].strip() == "test image"
    tab.evaluate("[...lab.el.querySelectorAll('[role=tab]')].at(-1).click()")
    assert tab.evaluate(said)[0] == "No weights."
    assert len(tab.evaluate("lab.sent")) == 2
    assert "has not answered yet" in tab.evaluate(
        "new Promise((done) => setTimeout(() => done(" + said + "[1]), 4500))"
    )


@pytest.mark.browser
def test_a_notebook_opened_again_shows_what_is_carried_and_asks_nobody(tab, tmp_path):
    points = [dict(one, key=f"{i:012x}", stored=True, why="Run the cell.") for i, one in enumerate(POINTS)]
    bundle, *_ = play(points, answer=lambda live, message: None, trains=["beta"])._repr_mimebundle_()
    assert "trust the notebook" in bundle["text/html"]
    (tmp_path / "page.html").write_text(f'<!doctype html><html lang="en"><title>x</title>{bundle["text/html"]}</html>')
    tab.open((tmp_path / "page.html").as_uri())
    shown = "document.querySelector('.vaekit-widget')"
    assert tab.evaluate(f"{shown}.querySelectorAll('.member').length") == len(POINTS)
    assert tab.evaluate(f"{shown}.querySelector('.column').innerText") == "Run the cell."
    assert tab.evaluate(f"{shown}.querySelectorAll('.bench').length") == 0
    assert "trust the notebook" not in tab.evaluate(f"{shown}.innerText")
    assert not tab.errors()


@pytest.mark.browser
def test_what_trains_here_draws_its_curve_stops_and_goes_on(tab, tmp_path):
    points = [dict(one, key=f"{i:012x}") for i, one in enumerate(POINTS)]
    state = held(play(points, answer=lambda live, message: None, trains=["beta"]))
    in_lab(tab, tmp_path, state)
    buttons = "[...lab.el.querySelectorAll('.bench button')].filter((b) => !b.hidden).map((b) => b.textContent)"
    said = "lab.el.querySelector('.bench [role=status]').innerText"
    assert tab.evaluate(buttons) == ["Train here"]
    tab.evaluate("""(() => { const field = lab.el.querySelector(".bench input"); field.value = "0.2";
        field.dispatchEvent(new InputEvent("input")); lab.el.querySelector(".bench button").click(); })()""")
    asked = {"ask": "train", "key": "0" * 12, "letter": 0, "values": {"beta": "0.2"}}
    assert tab.evaluate("lab.sent") == [asked]
    assert (tab.evaluate(said), tab.evaluate(buttons)) == ("Asking the kernel …", ["Stop"])
    training = {**asked, "curve": [], "running": True}

    def tell(**what: Any) -> None:
        training.update(what)
        tab.evaluate(f"lab.set('training', {json.dumps(training)})")

    for step in (100, 200):
        curve = [*training["curve"], {"step": step, "steps": 500, "D": 90 - step / 10, "R": 3.0}]
        tell(curve=curve, say=f"step {step}")
    drawn = "lab.el.querySelector('.curve').getAttribute('aria-label')"
    for _ in range(2):  # also in a view that a reload makes: what trains is the kernel's to say
        assert tab.evaluate(said) == "step 200"
        assert tab.evaluate(drawn).startswith("D and R after 200 of 500")
        assert tab.evaluate(buttons) == ["Stop"]
        assert tab.evaluate("lab.el.querySelector('.bench input').value") == "0.2"
        in_lab(tab, tmp_path, state | {"training": training})
    tab.evaluate("[...lab.el.querySelectorAll('.bench button')][1].click()")
    assert tab.evaluate("lab.sent.at(-1)") == {"ask": "stop"}
    tell(running=False, stopped=True, say="stopped at 40 %: kept")
    assert (tab.evaluate(said), tab.evaluate(buttons)) == ("stopped at 40 %: kept", ["Go on"])
    typed = """(() => { const field = lab.el.querySelector(".bench input"); field.value = "NEW";
        field.dispatchEvent(new InputEvent("input")); })()"""
    tab.evaluate(typed.replace("NEW", "0.7"))  # another number is another training
    assert tab.evaluate(buttons) == ["Train here"]
    tab.evaluate(typed.replace("NEW", "0.2"))
    tab.evaluate("lab.el.querySelector('.bench button').click()")
    assert tab.evaluate("lab.sent.at(-1)") == asked
    # Its point comes with new data, which keeps the tab and the words.
    tab.evaluate("[...lab.el.querySelectorAll('[role=tab]')][1].click()")
    more = held(play([*points, dict(point(1, 0.2), key="f" * 12)], answer=lambda live, message: None, trains=["beta"]))
    tab.evaluate(f"lab.set('data', {json.dumps(more['data'])}); lab.set('value', [{len(points)}, 0])")
    tell(stopped=False, say="Trained.")
    assert tab.evaluate("lab.el.querySelector('.head .title').innerText").endswith("beta 0.2")
    assert tab.evaluate("lab.el.querySelector('[aria-selected=true]').textContent") == "Sample"
    assert (tab.evaluate(said), tab.evaluate(buttons)) == ("Trained.", ["Train here"])
