"""The page across the papers: what it says of a made-up table, and the networks behind a cell in a browser."""

import json
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_up import measured, members

from vaekit import studies
from vaekit.store import results
from vaekit.store.table import frame
from vaekit.studies import id_transition
from vaekit.studies.across import BETAS, relations
from vaekit.studies.across import page as across_page
from vaekit.studies.across.page import AcrossPage

STEPS = {"dsprites_like32": 5_000, "mnist": 4_688}
TITLES = {"dsprites_like32": "dSprites-like at 32 × 32", "mnist": "MNIST"}


def world(seeds: int = 5, steps=STEPS) -> pd.DataFrame:
    """Networks whose ID of z follows the rate given beta, while their mutual information follows beta alone.

    D rises with beta, all else falls with it.
    """
    random, frames = np.random.default_rng(0), []
    for name, count in steps.items():
        points = [(beta, seed) for seed in range(seeds) for beta in BETAS]
        fields = {"model": "classifier_vae", "batch_size": 128, "n_train": 20_000, "split": "cv"}
        rows = members(["beta", "seed"], points, steps=count, data=name, arm=None, parent=None, **fields)
        rows = rows.assign(wall_time=60.0, hardware="2 threads of a chip", data_identity="made", status="finished")
        trend = -np.log10(rows["beta"].to_numpy())
        one, other = random.normal(0, 0.2, (2, len(rows)))
        of = {
            ("rate", "test", ()): 20 + 10 * (trend + one),
            ("distortion", "test", (("samples", 1),)): 80 - 20 * trend,
            ("mutual_information", "train", (("estimator", "exact"),)): 3 + trend + other,
            ("intrinsic_dimension", "test", (("layer", "z"),)): 5 + 2 * (trend + one) + 0.01 * other,
        }
        frames += [
            measured(rows, measure, part, lambda _, share, value=value: share * value, (0.2, 1.0), **dict(how))
            for (measure, part, how), value in of.items()
        ]
    return pd.concat(frames, ignore_index=True)


def page_of(table: pd.DataFrame | None = None) -> AcrossPage:
    study = studies.study("across")
    return AcrossPage(study, study.Settings.at("published"), table)


@pytest.fixture(scope="module")
def page() -> AcrossPage:
    return page_of(world())


def soup(shown) -> BeautifulSoup:
    return BeautifulSoup(shown._repr_html_(), "html.parser")


def text(element) -> str:
    return " ".join(element.get_text().split())


def cells(table) -> dict[tuple[str, str], str]:
    """What each cell of a matrix says, by row and column."""
    names = [text(head) for head in table.select("thead th")]
    rows = {text(row.select_one("th")): [text(cell) for cell in row.select("td")] for row in table.select("tbody tr")}
    return {(a, b): cell for a, row in rows.items() for b, cell in zip(names, row, strict=True)}


def test_the_status_says_what_is_related_on_each_set_and_that_it_is_ours(page):
    box = soup(page.status())
    question, here = (text(element) for element in box.select("dd"))
    assert question == page.QUESTION
    for name, title in TITLES.items():
        (told,) = [relation for relation in page.relations if relation.found and relation.data == name]
        assert (told.a, told.b) == ("id_z", "rate")
        assert f"{title}: 1 of 2 tested pairs is related given β: ID of z with rate (ρ {told.partial[0]:.2f})." in here
    assert [text(bar) for bar in box.select(".vk-budget > div")] == [
        f"{steps:,} of {steps:,} steps, 5 seeds, {TITLES[name]}" for name, steps in STEPS.items()
    ]
    assert "No paper claims any of this" in text(box)
    assert "vk-badges" not in str(box.select_one("dl"))


def test_each_question_has_its_block_with_its_answer_and_each_pair(page):
    blocks = soup(page.answers()).select("section.vk-block")
    assert len(blocks) == len(relations.QUESTIONS)
    for block, question in zip(blocks, relations.QUESTIONS, strict=True):
        own = [relation for relation in page.relations if (relation.a, relation.b) in question.pairs]
        assert question.title in text(block.select_one("h3"))
        assert relations.answer(question, own) in text(block)
        assert question.origin[1:] in text(block)
        lines = [line.strip() for line in block.select_one(".vk-pairs").get_text("\n").splitlines()]
        assert [relation.brief for relation in own if relation.brief not in lines] == []
        assert len(block.select(".vk-sure")) == len({relation.data for relation in own})
    assert blocks[0].select_one("figure img")["alt"]
    assert not blocks[2].select("figure")  # nothing was pruned: no empty axes


def test_a_pair_that_cannot_be_tested_keeps_its_line_beside_those_that_can():
    """Also where nothing else of its question is tested on its image set; of a lone set the status says why."""
    page = page_of(world())
    one = page.values["data"] == "mnist"
    page.__dict__["values"] = page.values.assign(id_z=page.values["id_z"].mask(one, 7.0))
    lines = [text(line) for line in soup(page.answers()).select("section.vk-block")[0].select(".vk-sure")]
    assert len(lines) == 2
    assert "rate: ρ" in lines[0]
    assert "ID of z, rate: not tested, the ID of z differs among seeds at no beta" in lines[1]
    alone = page_of(world(steps={"mnist": STEPS["mnist"]}))
    alone.__dict__["values"] = alone.values.assign(id_z=7.0)
    assert alone.ours == "MNIST: nothing can be tested, the ID of z differs among seeds at no beta."
    few = page_of(world(seeds=3, steps={"mnist": STEPS["mnist"]}))
    assert few.ours == "MNIST: nothing can be tested, 3 of the 4 seeds that a test needs are complete over beta."


def test_a_cell_of_the_matrix_is_the_correlation_and_what_is_tested_is_marked(page):
    shown = soup(page.matrix())
    tables = shown.select("table")
    assert [table.get("hidden") for table in tables] == [None, ""]
    assert [text(option) for option in shown.select("option")] == [*TITLES.values()]
    shorts = {relations.SHORT[name]: name for name in relations.MEASURES}
    for name, table in zip(STEPS, tables, strict=True):
        wanted = relations.matrix(page.values, name)
        found = cells(table)
        assert {row for row, _ in found} == {"rate", "distortion", "mutual information", "ID of z"}
        for (a, b), cell in found.items():
            value = wanted.loc[shorts[a], shorts[b]]
            assert cell == ("" if a == b else f"{value:.2f}".replace("-", "−"))
        assert wanted.loc["distortion", "id_z"] < -0.9
        marked = [(text(cell.find_parent("tr").select_one("th")), text(cell)) for cell in table.select("td.t")]
        assert sorted(row for row, _ in marked) == ["ID of z", "ID of z", "mutual information", "rate"]
        for cell in table.select("td[style]"):
            value = float(text(cell).replace("−", "-"))
            assert ("p" in cell["class"]) == (value > 0)
            assert 0 <= int(re.search(r"--s:(\d+)%", cell["style"])[1]) <= 60
    assert "All of it is description" in text(shown)


def test_no_cell_says_minus_nothing():
    assert across_page._Cell(-0.001, False).text == "0.00"
    assert across_page._Cell(-0.301, False).text == "−0.30"
    assert across_page._Cell(math.nan, False).text == ""


def test_the_matrix_of_all_measures_is_small_and_its_points_are_the_networks():
    """All measures, five seeds, two sets; of every network the values, and nothing where it has none."""
    random, page = np.random.default_rng(0), page_of(world())
    rows = page.values.copy()
    rows[[*relations.MEASURES]] = random.lognormal(3, 2, (len(rows), len(relations.MEASURES)))
    rows.loc[0, "mig"] = math.nan
    page.__dict__["values"] = rows
    html = page.matrix()._repr_html_()
    assert len(html.encode()) <= 100_000
    sets = json.loads(re.search(r"sets = (\[.*\]);", html)[1])
    for name, points in zip(STEPS, sets, strict=True):
        own = rows[rows["data"] == name]
        assert points["names"] == [*relations.MEASURES.values()]
        assert (points["beta"], points["seed"]) == (own["beta"].tolist(), own["seed"].tolist())
        shown = np.array(points["values"], dtype=float)
        np.testing.assert_allclose(shown, own[[*relations.MEASURES]].to_numpy().T, rtol=1e-3)


def test_the_quick_scale_is_folded_and_the_page_says_that_nothing_can_be_told():
    page = page_of(world(seeds=1, steps={"dsprites_like32": 32}))
    assert len(page.quick)
    assert not len(page.long)
    assert "Nothing is trained beyond the quick scale yet." in text(soup(page.status()))
    assert not soup(page.answers()).select("figure, .vk-sure")
    assert soup(page.answers()).get_text().count("Cannot be told yet") == len(relations.QUESTIONS)
    assert "A correlation is shown of at least 4 betas, and no image set has them yet" in text(soup(page.matrix()))
    folds = soup(page.rest()).select("details.vk-fold")
    assert [text(fold.select_one("summary")) for fold in folds] == ["The quick scale's figures: 32 of 5,000 steps"]
    assert not folds[0].has_attr("open")


def test_what_results_hold_makes_the_page():
    page = page_of()
    assert len(page.values) >= 4
    quick = page.study.members(page.study.Settings.at("quick"))
    assert {member.key for member in quick} <= {
        *page.table["key"]
    }  # the command on the page trains its own betas alone
    for part in ("status", "scheme", "answers", "matrix", "noise", "rest"):
        assert getattr(page, part)()._repr_html_() == getattr(page, part)()._repr_html_() != ""


def test_the_numbers_of_the_tests_are_folded(page):
    (fold,) = soup(page.rest()).select("details.vk-fold")
    assert text(fold.select_one("summary")) == "The numbers"
    rows = [[text(cell) for cell in row.select("td")] for row in fold.select("table")[-1].select("tbody tr")]
    tested = [relation for relation in page.relations if math.isfinite(relation.p)]
    assert [row[:3] for row in rows] == [
        [TITLES[each.data], f"{relations.SHORT[each.a]}, {relations.SHORT[each.b]}", "5"] for each in tested
    ]
    assert rows[1][4:6] == [relations.interval(of) for of in (tested[1].plain, tested[1].partial)]
    assert rows[0][7] == "below 0.001"


def test_names_are_short_and_tell_measures_apart():
    names = [relations.SHORT[name] for name in (*relations.MEASURES, *relations.EARLY)]
    assert len(names) == len({*names})
    assert not any(re.search(r"\((?!out|in)|,", name) for name in names)
    assert relations.SHORT["out_in"] == "Δ(out → in)"
    assert relations.SHORT["early_rate"] == "rate at a fifth of the training"


def test_frozen_noise_is_shown_where_there_is_some_and_else_how_to_train_it(page, monkeypatch, tmp_path):
    table = frame(results.read(results.folder("id_transition")))
    monkeypatch.setenv("VAEKIT_RESULTS", str(tmp_path))
    shown = soup(page_of(world()).noise())
    assert not shown.select("figure")
    train, export = shown.select_one("pre").get_text().replace("\\\n", "").splitlines()
    words = shlex.split(train)
    assert words[:6] == [".venv/bin/python", "-m", "vaekit", "train", "id_transition", "--scale"]
    given = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    monkeypatch.setattr("vaekit.studies.base.absence", lambda name: None)
    networks = id_transition.members(id_transition.Settings.at(words[6], **given))
    assert {(one.noise, one.steps, dict(one.model_args)["latent_dim"]) for one in networks} == {
        (None, 1_562, 32),
        ("frozen", 1_562, 32),
    }
    assert export.endswith("vaekit export id_transition")
    fresh = table[table["steps"] == table["steps"].min()]
    frozen = fresh.assign(noise="frozen", key="frozen " + fresh["key"])
    both = pd.concat([fresh.assign(noise=None), frozen], ignore_index=True)
    monkeypatch.setattr(across_page, "frame", lambda tables: both)
    shown = soup(page_of(world()).noise())
    assert shown.select_one("figure")["id"] == "A1"
    assert not shown.select("pre:not(details pre)")


def test_your_turn_says_what_the_cell_by_hand_gives(capsys):
    source = (Path(__file__).parents[1] / "notebooks" / "across.py").read_text()
    (cell,) = [part for part in source.split("# %%") if "import relation\n" in part]
    (line,) = re.findall(r"<code>(other = [^<]*)</code>", source)
    before, after = cell.split("networks = ", 1)
    said = []
    for change in ("", line, line.replace("2 *", "1 *")):
        exec(f"{before}\n{change}\nnetworks = {after}", {"study": studies.study("across")})
        said.append(re.findall(r"-?\d\.\d*", capsys.readouterr().out))
    by_chance, follows, follows_less = ([*map(float, numbers[3:])] for numbers in said)
    assert by_chance[3] > 0.05
    assert follows == [0.56, 0.33, 0.79, 0.004]
    assert follows_less[0] == 0.14


class Opened:
    """The matrix in a browser."""

    def __init__(self, tab, path, page: AcrossPage):
        path.write_text(f"<!doctype html><meta charset=utf-8><title>t</title>{page.matrix()._repr_html_()}")
        tab.open(path.as_uri())
        self.tab, self.values = tab, page.values

    def __call__(self, script: str):
        return self.tab.evaluate(script)

    def press(self, key: str):
        code = {"Enter": 13, " ": 32, "ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "ArrowUp": 38}[key]
        entered = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        how = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.tab.call("Input.dispatchKeyEvent", type="keyDown", **how, **entered)
        self.tab.call("Input.dispatchKeyEvent", type="keyUp", **how)

    def points(self) -> list[dict]:
        """What is said of each point, and where it lies."""
        script = """[...document.querySelectorAll(".vk-point")].map((point) => {
            const box = point.getBoundingClientRect();
            return { says: point.textContent, x: box.x + box.width / 2, y: box.y + box.height / 2 };
        })"""
        return [
            dict(zip(("beta", "seed", "a", "b"), map(float, re.findall(r"-?[\d.]+", each["says"])), strict=True)) | each
            for each in self(script)
        ]

    def assert_shows(self, name: str, a: str, b: str):
        """That every network of a set is a point, `a` to the right and `b` upwards."""
        own = self.values[self.values["data"] == name]
        points = pd.DataFrame(self.points())
        assert points["beta"].tolist() == own["beta"].tolist()
        assert points["seed"].tolist() == own["seed"].tolist()
        for said, at, wanted, sign in (("a", "x", own[a], 1), ("b", "y", own[b], -1)):
            np.testing.assert_allclose(points[said], wanted, rtol=1e-3)
            assert np.corrcoef(points[at], wanted)[0, 1] * sign > 0.999
        caption = self("document.querySelector('figcaption').textContent")
        assert caption.startswith(f"{relations.MEASURES[b]} over {relations.MEASURES[a]}, {len(own)} networks")
        assert self("document.querySelector('svg').getAttribute('aria-label')") == caption


@pytest.mark.browser
def test_a_click_shows_the_networks_behind_a_cell(tab, tmp_path, page):
    opened = Opened(tab, tmp_path / "page.html", page)
    opened.assert_shows("dsprites_like32", "id_z", "rate")  # the first pair that is tested
    opened("document.querySelectorAll('tbody tr')[1].querySelectorAll('button')[1].click()")
    opened.assert_shows("dsprites_like32", "mutual_information", "distortion")
    rho = f"{relations.matrix(page.values, 'dsprites_like32').loc['distortion', 'mutual_information']:.2f}"
    chosen = [f"distortion and mutual information: ρ {rho.replace('-', '−')}"]
    assert opened("[...document.querySelectorAll('[aria-pressed=true]')].map((e) => e.title)") == chosen
    opened(
        "const menu = document.querySelector('select'); menu.value = 'MNIST'; menu.dispatchEvent(new Event('change'))"
    )
    assert opened("[...document.querySelectorAll('table')].map((e) => e.hidden)") == [True, False]
    opened.assert_shows("mnist", "id_z", "rate")
    assert not tab.errors()
    assert len([url for url in tab.requests() if not url.startswith("data:")]) == 1  # the page itself


@pytest.mark.browser
def test_a_seed_in_which_a_measure_is_constant_is_not_counted(tab, tmp_path):
    page = page_of(world())
    values = page.values
    constant = (values["data"] == "dsprites_like32") & (values["seed"] == 1)
    page.__dict__["values"] = values.assign(id_z=values["id_z"].mask(constant, 7.0))
    opened = Opened(tab, tmp_path / "page.html", page)
    assert opened("document.querySelector('figcaption').textContent").endswith("mean over 4 seeds.")


@pytest.mark.browser
def test_arrow_keys_move_over_the_cells_and_enter_or_space_shows_one(tab, tmp_path, page):
    opened = Opened(tab, tmp_path / "page.html", page)
    stops = "[...document.querySelectorAll('table:not([hidden]) button')].filter((e) => e.tabIndex === 0).length"
    opened("document.querySelector('table button[tabindex=\"0\"]').focus()")
    title = "document.activeElement.title.split(':')[0]"
    assert opened(title) == "rate and ID of z"
    opened.press("ArrowDown")
    assert opened(title) == "distortion and ID of z"
    opened.press("ArrowLeft")
    assert opened(title) == "distortion and mutual information"
    opened.press("ArrowLeft")  # over the diagonal, which has no cell
    assert opened(title) == "distortion and rate"
    opened.press("ArrowLeft")  # nothing is further left
    assert opened(title) == "distortion and rate"
    assert opened(stops) == 1
    opened.assert_shows("dsprites_like32", "id_z", "rate")  # as before: only Enter or space shows another
    opened.press("Enter")
    opened.assert_shows("dsprites_like32", "rate", "distortion")
    opened.press("ArrowDown")
    opened.press(" ")
    opened.assert_shows("dsprites_like32", "rate", "mutual_information")
    assert opened("document.querySelector('.vk-across').dataset.lmSuppressShortcuts") == "true"
    assert not tab.errors()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_cell_is_readable_on_its_colour(tab, tmp_path, page, theme):
    opened = Opened(tab, tmp_path / "page.html", page)
    opened(f"document.documentElement.dataset.theme = '{theme}'")
    contrasts = opened("""[...document.querySelectorAll("table:not([hidden]) td[style] button")].map((button) => {
        const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
        const light = (colour) => {
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
            const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255);
            const linear = parts.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        };
        const behind = getComputedStyle(button.parentElement).backgroundColor;
        const both = [light(getComputedStyle(button).color), light(behind)];
        return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    })""")
    assert len(contrasts) == 12
    assert min(contrasts) >= 4.5
