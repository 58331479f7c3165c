"""What a study's page shows: from the verdicts and the table, in all four studies."""

import base64
import csv
import importlib
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_up import members as rows_of_members
from PIL import Image

from vaekit import data, figures, models, pages, studies
from vaekit.claims import NOT_REPRODUCED, REPRODUCED, UNDECIDED, effect, findings
from vaekit.claims.statistics import Statistic
from vaekit.store.table import having
from vaekit.studies.rate_generalisation import explore
from vaekit.studies.rate_generalisation import figures as rates_figures


@pytest.fixture(scope="module", params=studies.PAPERS)
def page(request):
    study = studies.study(request.param)
    return pages.StudyPage(study, study.Settings.at("published"))


@pytest.fixture(scope="module")
def rates():
    study = studies.study("rate_generalisation")
    return pages.StudyPage(study, study.Settings.at("published"))


def soup(shown) -> BeautifulSoup:
    return BeautifulSoup(shown._repr_html_(), "html.parser")


def test_the_status_has_question_answer_ours_and_every_claim(page):
    box = soup(page.status())
    question, paper, ours = (element.get_text() for element in box.select("dd"))
    assert (question, paper) == (page.claims.question, page.claims.answer)
    assert ours.startswith(page.ours)
    assert [link.get_text() for link in box.select(".vk-badges a")] == [
        verdict.number for _, group in page.by_outcome for verdict in group
    ]
    assert sum(len(group) for _, group in page.by_outcome) == len(list(page.claims))


def test_every_claim_has_one_place_on_the_page(page):
    shown = soup(page.found()).select(".vk-block") + soup(page.not_run()).select("tbody tr")
    places = [element["id"] for element in shown]
    assert sorted(places) == sorted(pages.anchor(verdict) for verdict in page.verdicts)


def test_a_block_says_finding_paper_interval_and_seeds(page):
    for section, verdict in zip(soup(page.found()).select(".vk-block"), page.near, strict=True):
        text = " ".join(section.get_text().split())
        assert findings.headline(verdict) in section.select_one("h3").get_text()
        assert verdict.claim.paper in text
        assert findings.sureness(verdict) in text
        folded = " ".join(section.select_one("ul").get_text().split())
        for criterion in findings.on_trained_sets(verdict).criteria:
            if criterion.has_value:
                assert findings.measured(criterion) in folded


@pytest.mark.parametrize("outcome", [REPRODUCED, NOT_REPRODUCED, UNDECIDED])
def test_a_refused_claim_says_why_as_far_as_that_is_known(rates, outcome):
    first = rates.near[0]
    verdict = replace(first, outcome=outcome, claim=replace(first.claim, why="The paper's q(z) <is> ours."))
    for claim in (verdict, replace(verdict, claim=first.claim)):
        text = soup(pages._page("blocks", [pages.Block(claim, None, "")], [], [])).get_text()
        assert ("Why. The paper's q(z) <is> ours." in text) == (outcome == NOT_REPRODUCED and claim is verdict)


def test_what_cannot_be_told_yet_is_folded_to_its_finding_where_others_are_decided(rates):
    for block in soup(rates.found()).select(".vk-block"):
        verdict = next(verdict for verdict in rates.verdicts if pages.anchor(verdict) == block["id"])
        assert (block.name == "details") == (verdict.outcome == UNDECIDED)
    undecided = pages.StudyPage(rates.study, rates.settings, rates.table[rates.table["seed"] == 0])
    undecided_near = [verdict for verdict in undecided.near if verdict.outcome == UNDECIDED]
    assert len(undecided_near) == len(undecided.near) > 2
    assert [block.name for block in soup(undecided.found()).select(".vk-block")][:3] == [
        "section",
        "section",
        "details",
    ]


def test_what_keeps_a_claim_open_stands_before_what_holds(rates):
    three_seeds = pages.StudyPage(rates.study, rates.settings, rates.table[rates.table["seed"] < 3])
    for verdict in (near := [*rates.near, *three_seeds.near]):
        kept = [criterion for criterion in verdict.criteria if criterion.has_value and criterion.outcome != REPRODUCED]
        block = pages.Block(verdict, None, "")
        assert [*map(findings.measured, kept)] == block.measured[: len(kept)]
    assert any(verdict.criteria[0].outcome == REPRODUCED != verdict.outcome for verdict in near)


def test_a_count_is_whole_in_the_table_of_seeds():
    study = studies.study("hierarchical_rates")
    page = pages.StudyPage(study, study.Settings.at("published"))
    (counts,) = [verdict for verdict in page.near if verdict.number == "2.1"]
    assert "475,811" in pages.Block(counts, None, "").seeds[0].values()


def test_a_bar_stands_beside_the_steps_of_its_own_image_set(page):
    networks = page._networks(page.study.Settings.at("published"))
    for bar in page.bars:
        (name,) = [name for name in {*page.table["data"]} if bar["text"].endswith(f", {data.title(name)}")]
        own = {each.steps for each in networks if each.data in (name, data.about(name).copy_of) and not each.arm}
        assert f" of {max(own):,} steps" in bar["text"]


def test_a_caption_says_that_panels_are_left_out(rates):
    fresh = pages.StudyPage(rates.study, rates.settings, rates.table)
    function = rates_figures.figure_4
    assert len(function(rates.long).axes) > 1
    picture = fresh._draw(function, rates.long)
    assert picture.caption.endswith(" Panels of what is not trained yet are left out.")
    assert picture.alt.endswith(" Panels of what is not trained yet are left out.")
    whole = fresh._draw(rates_figures.figure_8, rates.long)
    assert "left out" not in whole.caption


@pytest.mark.parametrize("rows", ["long", "quick"])
def test_the_labels_of_pictures_are_whole_however_many_stand_beside_each_other(rates, rows):
    figure = explore.figure_3_pictures(getattr(rates, rows), rates.settings)
    figure.draw_without_rendering()
    labels = [label for ax in figure.axes for label in ax.get_yticklabels()]
    assert labels
    assert all(label.get_window_extent().x0 >= 0 for label in labels)


def test_a_figure_is_shown_once_and_its_data_is_what_it_draws(rates):
    fresh = pages.StudyPage(rates.study, rates.settings, rates.table)
    blocks = soup(fresh.found())
    labels = [figure["id"] for figure in blocks.select("figure")]
    assert len(labels) == len({*labels}) >= 3
    assert {link["href"][1:] for link in blocks.select('a[href^="#R"]')} <= {*labels}
    for image in blocks.select("figure img"):
        assert image["alt"].strip()
        assert image["src"].startswith(("data:image/svg+xml;base64,", "data:image/png;base64,"))
    for link in blocks.select("figcaption a[download]"):
        kind, _, content = link["href"].partition(",")
        assert (kind, link["download"]) == ("data:text/csv;base64", f"{link.find_parent('figure')['id']}.csv")
        lines = base64.b64decode(content).decode().splitlines()
        assert list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_the_quick_scale_is_folded_stamped_and_grey(page):
    folds = soup(page.rest()).select("details.vk-fold")
    assert folds
    assert not any(fold.has_attr("open") for fold in folds)
    quick = folds[-1].select("figure")
    assert len(page.quick)
    assert quick
    untuned = page.quick[page.quick["parent"].isna()] if "parent" in page.quick else page.quick
    whole = max(map(page._whole, untuned["data"].unique()))
    steps = f"{int(untuned['steps'].max()):,} of {whole:,} steps"
    for figure in quick:
        assert figure.select_one("figcaption").get_text(" ").partition(". ")[2].strip().startswith(steps)
        image = Image.open(io.BytesIO(base64.b64decode(figure.select_one("img")["src"].partition(",")[2])))
        colours = np.asarray(image.convert("RGB"))
        assert np.ptp(colours, axis=2).max() == 0


def test_members_are_of_the_quick_scale_or_of_more_and_small_budgets_stand_back(page):
    quick, long = {*page.quick["key"]}, {*page.long["key"]}
    assert not quick & long
    rest = page.shown[~page.shown["key"].isin(quick | long)]
    assert (rest.groupby("steps")["key"].nunique() < 3 * rest["steps"].nunique() + 3).all()
    most = max(member.steps for member in page._networks(page.study.Settings.at("quick")))
    assert (page.quick["steps"] <= most).all()
    before = page.long["parent_steps"] if "parent_steps" in page.long else page.long["steps"]
    assert (np.fmax(page.long["steps"], before) > most).all()


def test_the_quick_scale_is_left_out_where_more_was_trained_of_all_it_is_compared_with(page):
    def compared(rows, *over):
        members = rows.drop_duplicates("key")
        names = [name for name in (*pages.COMPARED, *over) if name in members]
        return {*zip(*(members[name].map(str) for name in names), strict=True)}

    left_out = page.table[~page.table["key"].isin(page.shown["key"])]
    most = max(member.steps for member in page._networks(page.study.Settings.at("quick")))
    assert (left_out["steps"] <= most).all()
    assert compared(left_out, "depth", "arm") <= compared(page.long, "depth", "arm")
    assert not compared(page.quick) & compared(left_out)
    # Of study 3 no network of one layer has more: beside it those of three stay.
    assert len(left_out) == 0 if page.name == "rate_generalisation" else len(left_out) > 0
    alone = pages.StudyPage(page.study, page.settings, pd.concat([page.quick, left_out]).reset_index(drop=True))
    assert {*alone.shown["key"]} == {*alone.table["key"]}


def test_what_comes_in_moves_a_claim_from_the_list_to_a_block_by_itself(rates):
    without = rates.table[rates.table["measure"] != "train_preference"]
    before = pages.StudyPage(rates.study, rates.settings, without)
    assert "claim-3-6" in {row["id"] for row in soup(before.not_run()).select("tr[id]")}
    assert "claim-3-6" in {block["id"] for block in soup(rates.found()).select(".vk-block")}
    assert "3.6" not in {verdict.number for verdict in before.near}
    assert before.ours != rates.ours


def test_decided_claims_come_first_and_the_one_that_matters_most_before_others(rates):
    outcomes = [verdict.outcome for verdict in rates.near]
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome == UNDECIDED)
    assert (rates.near[0].number, outcomes[0]) == ("3.6", REPRODUCED)
    assert rates.ours.startswith(findings.headline(rates.near[0]))


def test_where_no_claim_is_near_the_largest_budget_s_figures_of_those_that_matter_most_stand_open(rates, monkeypatch):
    monkeypatch.setattr(findings, "is_near", lambda verdict: False)
    page = pages.StudyPage(rates.study, rates.settings, rates.table)
    assert page.near == []
    found = soup(page.found())
    assert "No budget has together the steps, the seeds and the settings of a claim" in found.get_text()
    captions = [figure.figcaption.get_text() for figure in found.select("figure")]
    matter_most = (verdict for number in page.claims.headline for verdict in page.verdicts if verdict.number == number)
    functions = dict.fromkeys(function for verdict in matter_most if (function := page._figure_of(verdict)))
    wanted = [each.caption for each in functions if page._figure(each, page.long)][: pages.SO_FAR]
    assert len(captions) == len(wanted) == pages.SO_FAR
    for caption, of_function in zip(captions, wanted, strict=True):
        assert of_function in caption
        assert of_function not in soup(page.rest()).select_one("details").get_text()
    assert page.thumbnail.startswith("data:image/png")
    assert not found.select(".vk-block")


def test_a_claim_that_is_near_keeps_them_folded(rates):
    assert rates.near
    assert rates.so_far == []
    assert "or to lean to an answer" not in soup(rates.found()).get_text()


def test_a_store_without_evidence_says_so(rates):
    empty = pages.StudyPage(rates.study, rates.settings, rates.table[:0])
    assert empty.ours.startswith("No claim can be told yet: no budget has the steps")
    assert "Nothing has been trained for long enough" in soup(empty.found()).get_text()
    assert len(soup(empty.not_run()).select("tbody tr")) == 16
    assert empty.rest()._repr_html_() == ""


def test_hours_are_members_times_steps_times_the_speed_that_was_observed(rates):
    """Of claim 3.9: 4 sizes x 12 betas x 2 depths x 3 seeds of 50,000 steps of 128 images."""
    one = rates.table.drop_duplicates("key").head(1)
    one = one.assign(wall_time=100.0, steps=1_000, batch_size=128, hardware="2 threads of a chip", model="dense_vae")
    own = pd.concat([one.assign(key=f"{depth}", depth=depth, hidden=512, latent_dim=10) for depth in (1, 3)])
    other = one.assign(key="o", wall_time=1.0, depth=1, hidden=64, latent_dim=10)  # another network counts for nothing
    page = pages.StudyPage(rates.study, rates.settings, pd.concat([own, other]))
    verdict = next(verdict for verdict in page.verdicts if verdict.number == "3.9")
    hours = 4 * 12 * 2 * 3 * 50_000 * (100 / 1_000) / 3600
    assert page._hours(verdict) == {"hours": f"{hours / 2:,.0f}", "gpu": "not measured"}
    on_gpu = pages.StudyPage(rates.study, rates.settings, own.assign(hardware="NVIDIA H200"))
    assert on_gpu._hours(verdict) == {"hours": "not measured", "gpu": f"{hours:,.0f}"}
    unseen = pages.StudyPage(rates.study, rates.settings, other)
    assert unseen._hours(verdict)["hours"] == "not measured"


def test_a_cell_that_is_run_again_shows_the_same(rates):
    for part in ("scheme", "found", "rest", "not_run"):
        assert getattr(rates, part)()._repr_html_() == getattr(rates, part)()._repr_html_()


def test_seeds_stand_in_their_own_columns():
    def of(**values):
        return effect(
            Statistic("x", pd.Series(values.values(), [int(name[1:]) for name in values], dtype=float)), above=0
        )

    criteria = (of(s0=1, s1=2, s2=3), of(s1=4, s2=5).named("y"))
    rows = pages.Block(SimpleNamespace(criteria=criteria, sets={}), None, "").seeds
    assert rows == [
        {"value of": "x", "seed 0": "1", "seed 1": "2", "seed 2": "3"},
        {"value of": "y", "seed 0": "–", "seed 1": "4", "seed 2": "5"},
    ]


def test_no_text_becomes_markup(rates):
    class Claims:
        title, question, answer, caution, headline = "<i>", "<script>?", "a & b", "<b>", ()

    evil = pages.StudyPage(rates.study, rates.settings, rates.table)
    evil.claims = Claims
    html = evil.status()._repr_html_()
    assert "<script>?" not in html
    assert soup(evil.status()).select("dd")[0].get_text() == "<script>?"


def test_the_strip_the_cards_and_the_scorecard_have_every_claim(rates):
    squares = soup(pages.strip(rates.verdicts)).select(".vk-strip a")
    assert squares[0]["href"] == "rate_generalisation.html#claim-3-1"
    assert len(squares) == 16
    card = soup(pages.cards([rates])).select_one(".vk-card")
    assert card["href"] == "rate_generalisation.html"
    assert card.select_one("img")["src"].startswith("data:image/png")
    lines = soup(pages.scorecard(rates.verdicts, {"rate_generalisation": "R"})).select(".vk-line")
    assert [line["data-outcome"] for line in lines] == [findings.outcome(verdict) for verdict in rates.verdicts]
    assert [line.select_one("p a")["href"] for line in lines] == [square["href"] for square in squares]


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (models.DenseVAE(depth=3, hidden=8), ["input", *(f"encoder{i}" for i in (1, 2, 3)), "mu", "logvar", "z"]),
        (models.GHVAE(), ["input", "mu2", "z2", "mu1", "z1", "output"]),
    ],
    ids=["dense", "hierarchical"],
)
def test_a_scheme_has_a_bar_for_each_layer_as_high_as_its_numbers(model, layers):
    ax = figures.scheme(model).axes[0]
    texts = [text.get_text() for text in ax.texts]
    assert texts[::2][: len(layers)] == layers
    sizes = [np.prod([int(part) for part in text.split(" × ")]) for text in texts[1::2]]
    heights = [bar.get_height() for bar in ax.patches]
    assert len(heights) == len(sizes)
    assert np.allclose(heights, 0.25 + np.log10(sizes))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_no_line_is_drawn_through_fewer_than_four_points(count):
    rows = rows_of_members(["beta", "seed"], [(10.0**-i, 0) for i in range(count)]).assign(value=1.0)
    ax = figures.panels(1, 1)[1][0, 0]
    figures.line(ax, rows, "beta")
    assert (ax.lines[0].get_linestyle() == "None") == (count < 4)


def test_what_is_described_says_what_it_shows():
    for name in studies.PAPERS:
        numbers = {claim.number for claim in importlib.import_module(f"vaekit.studies.{name}.claims").CLAIMS}
        described = pages._described(studies.study(name))
        assert len(described) >= 8
        for function in described:
            assert function.caption
            assert {*function.claims} <= numbers
            assert function.is_table or len(function.alt) > 20
        shown = [number for function in described for number in function.claims]
        assert len(shown) == len({*shown})  # one figure a claim


def test_an_empty_figure_is_known():
    assert figures.is_empty(figures.nothing("not run yet"))
    rows = pd.DataFrame({"beta": [0.1], "value": [1.0]})
    figure, axes = figures.panels(1, 1)
    figures.line(axes[0, 0], rows, "beta")
    assert not figures.is_empty(figure)
    assert having(rows, beta=0.2).empty


def test_rows_and_columns_of_empty_panels_go():
    rows = pd.DataFrame({"beta": [0.1, 1.0], "value": [1.0, 2.0]})
    figure, axes = figures.panels(3, 2, width=4, height=3)
    figures.line(axes[0, 1], rows, "beta")
    axes[1, 0].axhline(1)  # a line across all of it shows no point
    axes[1, 1].plot([], [], label="no point")
    figures.line(axes[2, 1], rows, "beta")
    figures.say(axes[0, 0], "not run yet")
    assert figures.trimmed(figure).axes == [axes[0, 1], axes[2, 1]]
    assert [ax.get_subplotspec().rowspan.start for ax in figure.axes] == [0, 1]
    assert tuple(figure.get_size_inches()) == (4, 6)
    whole, axes = figures.panels(1, 2)
    figures.line(axes[0, 0], rows, "beta")
    figures.line(axes[0, 1], rows, "beta")
    assert figures.trimmed(whole).axes == list(axes[0])
    nothing = figures.nothing("no point")
    assert len(figures.trimmed(nothing).axes) == 1  # whether it is shown is_empty says
