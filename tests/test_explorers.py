"""What moves of the four studies: everywhere in a browser, of the seeds asked for, and where something is damaged."""

import dataclasses

import pandas as pd
import pytest
import test_hierarchical_rates
import test_id_transition
import test_study_pruning
import tiny
from test_movable import in_lab

from vaekit.data import DataError
from vaekit.store import StoreError, UnreadableError, default_store
from vaekit.studies import hierarchical_rates, pruning, rate_generalisation
from vaekit.studies.hierarchical_rates import explore as explore_2
from vaekit.studies.id_transition import explore as explore_1
from vaekit.studies.pruning import explore as explore_4
from vaekit.studies.rate_generalisation import explore as explore_3
from vaekit.sweep import image_grids

pytestmark = pytest.mark.usefixtures("place")


def study_1(monkeypatch):
    pairs = {"information_imbalance": test_id_transition.PAIRS, "duplicates": ["layer=0", "layer=5"]}
    every = {**test_id_transition.READ, **pairs}
    for name, arguments in every.items():
        monkeypatch.setitem(test_id_transition.READ, name, arguments)
    how = {"dims": (2, 64), "epochs": (0, 1, 10), "only": tuple(every)}
    rows = test_id_transition.table(test_id_transition.whole, seeds=(0, 1), **how)
    rows = tiny.with_columns(rows.drop(columns=["layer", "from", "to"]).assign(asked=True, n=5_000))
    return explore_1.explore(rows, test_id_transition.settings())


def study_2(monkeypatch):
    both = pd.concat([test_hierarchical_rates.world(), test_hierarchical_rates.world(model="lvae")])
    return explore_2.explore(both, test_hierarchical_rates.settings())


def study_3(monkeypatch):
    members = [tiny.member(beta, seed) for beta in (0.1, 1.0, 3.0) for seed in (0, 1)]
    return explore_3.explore(tiny.table.frame(tiny.tables(members)).assign(asked=True), tiny.settings())


def study_4(monkeypatch):
    table = test_study_pruning.made_up(arms=["gradual", "dense"], data=["mnist", "fashion_mnist"])
    return explore_4.explore(table.assign(asked=True), test_study_pruning.tiny())


# Moves every slider to both ends, and every choice to every one of its values; collects what stands beside the plot.
MOVE = """(() => {
    const all = (selector) => [...lab.el.querySelectorAll(selector)];
    const seen = [];
    const look = () => seen.push([all(".ring").length, all(".found tr").length, all("[role=alert]").length]);
    const slide = (slider) => [slider.max, 0].forEach((to) => {
        slider.value = to; slider.dispatchEvent(new InputEvent("input", { bubbles: true })); look(); });
    all("select").forEach((list) => [...list.options].forEach((_, i) => {
        list.value = i; list.dispatchEvent(new Event("change")); look(); }));
    all("input[type=radio]").forEach((radio) => { radio.click(); all("input[type=range]").forEach(slide); });
    all("input[type=range]").forEach(slide);
    return seen;
})()"""


@pytest.mark.browser
@pytest.mark.parametrize("explore", [study_1, study_2, study_3, study_4])
def test_a_study_s_explorer_moves_everywhere(tab, tmp_path, monkeypatch, explore):
    state = tiny.held(explore(monkeypatch))
    in_lab(tab, tmp_path, state)
    seen = tab.evaluate(MOVE)
    assert len(seen) >= 4
    assert all(rings and rows and not alerts for rings, rows, alerts in seen)
    last = state["data"]["axes"][-1]
    tab.evaluate("lab.set('value', [...lab.get('value').slice(0, -1), 12345])")
    says = tab.evaluate("lab.el.querySelector('.found').innerText")
    assert says.startswith("There is no trained member at ")
    assert says.endswith(f"{last['name']} 12345.")
    assert not tab.errors()


# Those with pictures or networks to load: members of seed 7, asked for, and what would be read of them.
TRAINED = {
    "hierarchical_rates": (
        hierarchical_rates,
        explore_2,
        lambda: test_hierarchical_rates.settings(seeds=7, betas2=1),
        image_grids,
    ),
    "rate_generalisation": (rate_generalisation, explore_3, lambda: tiny.settings(seeds=7), image_grids),
    "pruning": (pruning, explore_4, lambda: test_study_pruning.tiny(seeds=7, arms="gradual"), explore_4),
}


def with_others(table: pd.DataFrame) -> pd.DataFrame:
    """Beside members that were asked for, as many of seed 0 that were not, and are not stored, and more of them."""
    columns = [name for name in ("key", "parent") if name in table]
    others = {name: table[name].str[::-1] for name in columns}
    others = table.assign(seed=0, asked=False, **others)
    return pd.concat([others, table], ignore_index=True)


@pytest.mark.parametrize("name", TRAINED)
def test_an_explorer_shows_the_seed_that_was_asked_for_as_its_advice_says(name, monkeypatch):
    study, explorer, settings, reader = TRAINED[name]
    chosen = settings()
    table = with_others(study.run(chosen))
    before = table[~table["asked"]].assign(asked=True)  # seed 0 alone, as results/ has it
    if name != "rate_generalisation":
        advice = {point["alt"] for point in tiny.held(explorer.explore(before, chosen))["data"]["points"]}
        assert all("say seeds = [7]." in words for words in advice)
    points = tiny.held(explorer.explore(table, chosen))["data"]["points"]
    if name == "pruning":
        assert all(point["series"][1] for point in points)  # the network of seed 7, pruned here
    else:
        assert all(point["picture"] and "seed 7" in point["alt"] for point in points)

    # What is damaged or not here costs its picture alone, and is said in its place.
    for error in (StoreError("the weights are damaged"), DataError("the images are gone")):
        with monkeypatch.context() as patch:
            patch.setattr(reader, "load", lambda *_, error=error, **how: (_ for _ in ()).throw(error))
            points = tiny.held(explorer.explore(table, chosen))["data"]["points"]
        assert points
        assert all(point["picture"] is None and point["alt"] for point in points)
        if name == "pruning":
            assert {point["alt"] for point in points} == {f"Not tuned: {error}"}


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("name", TRAINED)
def test_a_run_that_may_not_be_read_is_one_error_and_not_taken_for_absent(name):
    study, explorer, settings, _ = TRAINED[name]
    chosen = settings()
    table = study.run(chosen)
    for key in table["key"].unique():
        default_store().path(key).chmod(0)
    for shows in filter(None, (explorer.explore, getattr(explorer, "decode", None))):
        with pytest.raises(UnreadableError, match="may not be read"):
            shows(table, chosen)


def test_the_seed_that_is_advised_is_one_that_trains():
    chosen = test_hierarchical_rates.settings()
    table = test_hierarchical_rates.world(seeds=(0, 7, 8))
    advice = {point["alt"] for point in tiny.held(explore_2.explore(table, chosen))["data"]["points"]}
    assert explore_2.NONE_STORED.replace("7", "9") in advice


def test_numbers_are_of_a_seed_that_was_asked_for_where_others_have_more():
    few = test_hierarchical_rates.world(seeds=(7,), points=[(0.3, 1.0), (0.1, 1.0)])
    more = test_hierarchical_rates.world(seeds=(0,)).assign(asked=False)
    table = pd.concat([more, few], ignore_index=True)
    chosen = dataclasses.replace(test_hierarchical_rates.settings(seeds=7), scale="published")
    points = tiny.held(explore_2.explore(table, chosen))["data"]["points"]
    assert [dict(point["numbers"])[0] for point in points] == ["7", "7"]
    assert explore_2.drawn_seed(table.assign(asked=True)) == 0  # of all that were asked for, the one with most
