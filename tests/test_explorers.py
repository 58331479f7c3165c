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
from vaekit.store import StoreError, default_store
from vaekit.studies import hierarchical_rates, id_transition, playing, pruning, rate_generalisation
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


# Moves every slider to both ends, and every choice to every one of its values; collects what stands beside the plane.
MOVE = """(() => {
    const all = (selector) => [...lab.el.querySelectorAll(selector)];
    const seen = [];
    const away = () => all(".head").filter((head) => head.innerText.includes("not measured after"));
    const pins = () => all(".pin").length + away().length;
    const look = () => seen.push([pins(), all(".numbers tbody tr").length, all("[role=alert]").length]);
    const slide = (slider) => [slider.max, 0].forEach((to) => {
        slider.value = to; slider.dispatchEvent(new InputEvent("input", { bubbles: true })); look(); });
    all(".movers select").forEach((list) => [...list.options].forEach((_, i) => {
        list.value = i; list.dispatchEvent(new Event("change")); look(); }));
    all(".movers input[type=radio]").forEach((radio) => {
        radio.click(); all(".movers input[type=range]").forEach(slide); });
    all("[role=tab]").forEach((tab) => { tab.click(); look(); });
    return seen;
})()"""


@pytest.mark.browser
@pytest.mark.parametrize("explore", [study_1, study_2, study_3, study_4])
def test_a_study_s_explorer_moves_everywhere(tab, tmp_path, monkeypatch, explore):
    state = tiny.held(explore(monkeypatch))
    in_lab(tab, tmp_path, state)
    seen = tab.evaluate(MOVE)
    assert len(seen) >= 8
    assert all(pins and rows and not alerts for pins, rows, alerts in seen)
    assert not tab.errors()


# Those with pictures or networks to load: members of seed 7, asked for.
TRAINED = {
    "hierarchical_rates": (
        hierarchical_rates,
        explore_2,
        lambda: test_hierarchical_rates.settings(seeds=7, betas2=1, betas1=1),
    ),
    "rate_generalisation": (rate_generalisation, explore_3, lambda: tiny.settings(seeds=7)),
    "pruning": (pruning, explore_4, lambda: test_study_pruning.tiny(seeds=7, arms="gradual")),
}


def with_others(table: pd.DataFrame) -> pd.DataFrame:
    """Beside members that were asked for, as many of seed 0 that were not, and are not stored, and more of them."""
    columns = [name for name in ("key", "parent") if name in table]
    others = {name: table[name].str[::-1] for name in columns}
    others = table.assign(seed=0, asked=False, **others)
    return pd.concat([others, table], ignore_index=True)


@pytest.mark.parametrize("name", TRAINED)
def test_an_explorer_shows_the_seed_that_was_asked_for_as_its_advice_says(name, monkeypatch):
    study, explorer, settings = TRAINED[name]
    chosen = settings()
    table = with_others(study.run(chosen))
    before = table[~table["asked"]].assign(asked=True)  # seed 0 alone, as results/ has it
    advice = [point["whyNot"] for point in tiny.held(explorer.explore(before, chosen))["data"]["points"]]
    assert any("say seeds = [7]" in words for words in advice)
    shown = explorer.explore(table, chosen)
    points = [point for point in tiny.held(shown)["data"]["points"] if point["of"]]
    assert all((point["of"], point["stored"]) == ("seed 7", True) for point in points)

    # A kernel gives what is stored; what is damaged or not here costs its picture alone, and is said in its place.
    kernel, key = shown._answer.__self__, points[0]["key"]
    facts, content = kernel.facts(key)
    assert facts["rows"]
    assert len(content) == 1
    network(facts["decoder"], content[0], facts["codes"])
    for error in (StoreError("the weights are damaged"), DataError("the images are gone")):
        with monkeypatch.context() as patch:
            for module in (image_grids, playing):
                patch.setattr(module, "load", lambda *_, error=error, **how: (_ for _ in ()).throw(error))
            facts, content = kernel.facts(key)
        assert (facts["rows"], facts["why"], facts["whyNot"], content) == ([], f"{error}", f"{error}", [])


def network(decoder, content, codes) -> None:
    """Check that a packed decoder and its codes fit each other."""
    assert decoder["latent"] == len(codes["kl"]) == len(codes["mean"][0])
    assert len(content) > 4 * decoder["floats"]


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("name", TRAINED)
def test_a_run_that_may_not_be_read_is_said_and_not_taken_for_absent(name):
    study, explorer, settings = TRAINED[name]
    chosen = settings()
    table = study.run(chosen)
    shown = explorer.explore(table, chosen)
    for key in table["key"].unique():
        default_store().path(key).chmod(0)
    facts, content = shown._answer.__self__.facts(tiny.held(shown)["data"]["points"][0]["key"])
    assert "may not be read" in facts["why"]
    assert "may not be read" in facts["whyNot"]
    assert not content


def test_the_seed_that_is_advised_is_one_that_trains():
    table = test_hierarchical_rates.world(seeds=(0, 7, 8))
    points = tiny.held(explore_2.explore(table, test_hierarchical_rates.settings()))["data"]["points"]
    assert all("say seeds = [9]" in point["whyNot"] for point in points)


def test_numbers_are_of_a_seed_that_was_asked_for_where_others_have_more():
    few = test_hierarchical_rates.world(seeds=(7,), points=[(0.3, 1.0), (0.1, 1.0)])
    more = test_hierarchical_rates.world(seeds=(0,)).assign(asked=False)
    table = pd.concat([more, few], ignore_index=True)
    chosen = dataclasses.replace(test_hierarchical_rates.settings(seeds=7), scale="published")
    points = tiny.moved(explore_2.explore(table, chosen))[1]["points"]
    assert [point["numbers"]["seed"] for point in points] == ["7", "7"]
    assert explore_2.drawn_seed(table.assign(asked=True)) == 0  # of all that were asked for, the one with most


# ---- train here: a kernel of its own, whose widget is one that listens


class Live:
    """What a kernel knows of the widget: its traits, and every state of what trains."""

    def __init__(self, shown):
        self.told, self.data, self.weights, self.value = [], {}, {}, list(shown._state["value"])
        self.training = {}

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "training":
            self.told.append(value)


def trained_here(shown, key: str, **values: str) -> tuple[Live, str]:
    """Ask a kernel for a training and wait for its end: the widget, and the last words."""
    live, kernel = Live(shown), shown._answer.__self__
    kernel.answer(live, {"ask": "train", "key": key, "letter": 1, "values": values})
    if kernel.training:
        kernel.training.join(60)
    assert not live.training.get("running"), live.training
    return live, live.training["say"]


def test_what_trains_here_is_measured_stored_and_takes_its_place_as_b():
    chosen = tiny.settings(seeds=7)
    shown = explore_3.explore(rate_generalisation.run(chosen), chosen)
    points = tiny.moved(shown)[1]["points"]
    before = {*default_store().keys()}
    live, says = trained_here(shown, points[0]["key"], beta="0.25")
    assert says.startswith("Trained and measured: beta 0.25, 1 layer: test D ")
    assert {"step", "steps", "D", "R"} <= live.training["curve"][-1].keys()
    assert any(one.get("running") and one["values"] == {"beta": "0.25"} for one in live.told)  # for a view of then
    (new,) = {*default_store().keys()} - before
    assert dict(default_store().record(new)["member"])["weights.beta"] == 0.25
    assert len(live.data["points"]) == len(points) + 1
    placed = live.data["points"][live.value[1]]
    assert (placed["key"], placed["stored"], placed["budget"]) == (new[:12], True, 0)
    assert live.data["axes"][1]["values"] == [0.1, 0.25, 1.0]
    # The same again is there already, and a second one takes its place beside it.
    assert len(trained_here(shown, points[0]["key"], beta="0.25")[0].data["points"]) == len(points) + 1
    assert len(trained_here(shown, points[0]["key"], beta="0.75")[0].data["points"]) == len(points) + 2


@pytest.mark.parametrize("network", ["before pruning", "pruned"])
def test_what_trains_here_has_the_axes_of_those_beside_it(network):
    """Of study 4's two reductions what is trained has one, of which its point alone would say nothing."""
    chosen = test_study_pruning.tiny(seeds=7, readings=["sum", "pixel_mean"], arms="gradual")
    shown = explore_4.explore(pruning.run(chosen), chosen)
    _, data = tiny.moved(shown)
    model = next(
        point for point in data["points"] if point["axes"]["network"] == network and "mean" in point["axes"]["reading"]
    )
    live, says = trained_here(shown, model["key"], beta="2")
    assert says.startswith(f"Trained and measured: beta 2, {network}, "), says
    place = live.data["points"][live.value[1]]["place"]
    axes = {axis["name"]: axis["values"][rank] for axis, rank in zip(live.data["axes"], place, strict=True)}
    assert axes == model["axes"] | {"beta": 2}


def test_what_trains_here_stops_and_goes_on():
    chosen = tiny.settings(seeds=7)
    shown = explore_3.explore(rate_generalisation.run(chosen), chosen)
    kernel, live = shown._answer.__self__, Live(shown)
    key = tiny.held(shown)["data"]["points"][0]["key"]
    kernel.answer(live, {"ask": "train", "key": key, "values": {"beta": "0.3"}})
    kernel.answer(live, {"ask": "stop"})
    kernel.training.join(60)
    assert live.training["stopped"]
    assert "which is kept: Go on continues it." in live.training["say"]
    assert trained_here(shown, key, beta="0.3")[1].startswith("Trained and measured: beta 0.3")


REFUSED = {
    "new beta: got ''; wanted a finite number": {"beta": ""},
    "new beta: got 'nan'; wanted": {"beta": "nan"},
    "new beta: got '-1'; wanted a finite number, at least 0": {"beta": "-1"},
    "no point has a member fff": {"beta": "0.3"},
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_cannot_be_trained_here_is_one_sentence(says):
    chosen = tiny.settings(seeds=7)
    shown = explore_3.explore(rate_generalisation.run(chosen), chosen)
    key = "f" * 12 if "no point" in says else tiny.held(shown)["data"]["points"][0]["key"]
    _, said = trained_here(shown, key, **REFUSED[says])
    assert said.startswith(says)
    assert "\n" not in said


def test_without_its_images_nothing_trains_here(monkeypatch):
    chosen = tiny.settings(seeds=7)
    shown = explore_3.explore(rate_generalisation.run(chosen), chosen)
    monkeypatch.setattr(playing.sweep, "run", lambda *_, **how: (_ for _ in ()).throw(DataError("the images are gone")))
    _, said = trained_here(shown, tiny.held(shown)["data"]["points"][0]["key"], beta="0.3")
    assert said == "DataError: the images are gone"


VARIED = {
    "id_transition": (explore_1._vary, {"K": 16.0}, {"model_args.latent_dim": 16}),
    "hierarchical_rates": (
        playing.vary_weights,
        {"beta2": 0.5, "beta1": 2.0},
        {"weights.beta2": 0.5, "weights.beta1": 2.0},
    ),
    "pruning": (explore_4._vary, {"beta": 2.0}, {"weights.beta": 2.0}),
}


def test_what_is_varied_is_what_was_asked_for_and_no_more():
    of = {
        "id_transition": study_module(test_id_transition.settings(), id_transition),
        "hierarchical_rates": study_module(test_hierarchical_rates.settings(), hierarchical_rates),
        "pruning": study_module(test_study_pruning.tiny(arms="gradual"), pruning),
    }
    for name, (vary, numbers, changed) in VARIED.items():
        known = {member.key: member for member in of[name]}
        for member in of[name]:
            *parents, made = vary(member, numbers, known.__getitem__)
            differs = {field: value for field, value in made.row().items() if member.row()[field] != value}
            assert {field: value for field, value in differs.items() if field != "parent"} == changed
            assert [parent.key for parent in parents] == ([made.parent] if made.parent else [])
    with pytest.raises(ValueError, match=r"new K: got 2\.5; wanted a whole number"):
        explore_1._vary(of["id_transition"][0], {"K": 2.5}, known.__getitem__)
    with pytest.raises(ValueError, match="this member has no beta2"):
        VARIED["hierarchical_rates"][0](of["id_transition"][0], {"beta2": 1.0, "beta1": 1.0}, known.__getitem__)


def study_module(settings, study) -> list:
    return study.members(settings)
