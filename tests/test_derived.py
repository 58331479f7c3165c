"""Derived members, trained after their parents and from their weights; labels; measures that are left for later."""

import dataclasses

import pytest
import torch

from vaekit import sweep
from vaekit.store import Member, Run, Store, StoreError, load, results
from vaekit.store.table import frame
from vaekit.sweep import Measure, StudySpec, Value, plan_sweep

ARGUMENTS = {"channels": (2, 3), "latent_dim": 2, "classes": 3}
pytestmark = pytest.mark.usefixtures("place")


def parent(seed=0, **changes):
    fields = {"data": "dsprites_like", "split": "cv", "n_train": 24, "n_test": 12, "batch_size": 8, "steps": 4}
    weights = {"beta": 1.0, "lambda": 10.0, "reconstruction": 1.0}
    return Member("classifier_vae", objective="classifier_sum", seed=seed, model_args=ARGUMENTS, weights=weights,
                  **(fields | changes))  # fmt: skip


def child(of: Member, arm="gradual", sparsity=0.5, **changes):
    weights = dict(of.weights) | {"reconstruction": 0.0, "sparsity": sparsity}
    model_args = dict(of.model_args) | {"decoder": False}
    return dataclasses.replace(of, parent=of.key, arm=arm, model_args=model_args, weights=weights, steps=2, **changes)


def zeros(model, member, step, images):
    assert images.test_labels is not None
    assert len(images.test_labels) == len(images.test_factors) == len(images.test) == 12
    yield Value("model", "zeros", "", float((model.encoder[0].weight == 0).sum()), 0.0, 1)
    yield Value.mean("test", "label", "", images.test_labels.double())


def design(*more):
    measures = (Measure("zeros", 1, zeros), *more)
    return StudySpec("probes", measures, lambda m: (0, m.steps), lambda m: (0, m.steps), ("beta", "arm"))


def quiet(line):
    pass


def run(members, store, spec=None, **how):
    return sweep.run(spec or design(), members, store, progress=False, say=quiet, **how)


def test_children_start_from_their_parents_last_weights_and_are_pruned(store):
    family = [p for seed in (0, 1) for p in (parent(seed), child(parent(seed)), child(parent(seed), "dense", 0.0))]
    run(family, store)
    assert {*store.keys()} == {member.key for member in family}
    for mother, pruned, dense in (family[:3], family[3:]):
        end = store.weights(mother.key, 4)
        start = store.weights(pruned.key, 0)
        for name, value in start.items():
            assert name.endswith("_mask") or torch.equal(value, end[name])
        assert not any(name.startswith("decoder") for name in start)
        model = load(pruned.key, store=store)
        masked = torch.cat([mask.flatten() for name, mask in model.state_dict().items() if name.endswith("weight_mask")
                            and not name.startswith("classifier")])  # fmt: skip
        assert int((~masked).sum()) == round(0.5 * len(masked))
        assert store.measure(dense.key, "zeros", 1)[-2]["value"] == 0
    assert plan_sweep(design(), family, store).missing == []
    table = frame(sweep.tables(design(), store, family))
    assert set(table.loc[table["arm"] == "gradual", "parent_steps"]) == {4}
    assert table.loc[table["arm"].isna(), "parent_steps"].isna().all()


def test_a_child_in_company_is_the_child_alone(store, place):
    family = [parent(), child(parent()), child(parent(), sparsity=0.9), child(parent(), "both")]
    run(family, store)
    other = Store(place / "other")
    run([parent(), child(parent())], other)
    for name, value in store.weights(family[1].key, 2).items():
        assert torch.equal(value, other.weights(family[1].key, 2)[name])


def test_a_child_whose_parent_is_nowhere_is_refused(store):
    with pytest.raises(StoreError, match=r"derived from run .* train that, too"):
        plan_sweep(design(), [child(parent())], store)


def test_a_parent_known_from_results_alone_is_trained_again_where_a_child_needs_it(store, place):
    run([parent()], store)
    results.write(results.folder("probes"), sweep.tables(design(), store), {})
    empty = Store(place / "empty")
    assert plan_sweep(design(), [parent()], empty).missing == []
    todo = plan_sweep(design(), [parent(), child(parent())], empty)
    assert todo.missing == [parent(), child(parent())]
    assert todo.known == []
    assert todo.again == [parent()]
    assert sweep.report(design(), todo, "cpu", empty, timed=False).splitlines()[-1] == (
        "  1 of them is in results/, and is trained again, for the weights that derived members start from"
    )
    anew = plan_sweep(design(), [parent(1), child(parent(1))], empty)
    assert anew.again == []
    assert "trained again" not in sweep.report(design(), anew, "cpu", empty, timed=False)


def test_a_diverged_parent_has_diverged_children(store):
    store.commit(Run(parent(), "diverged", "made up", {}, {}, {"study": "probes"}))
    for measure in design().measures:
        store.commit_measure(parent().key, measure.name, measure.version, [])
    run([parent(), child(parent())], store)
    assert store.record(child(parent()).key)["reason"] == "its parent diverged"


def test_a_measure_that_finds_nothing_is_known_from_results(store, place):
    nothing = Measure("nothing", 1, lambda *a: iter(()))
    run([parent()], store, design(nothing))
    results.write(results.folder("probes"), sweep.tables(design(nothing), store), {})
    empty = Store(place / "empty")
    assert plan_sweep(design(nothing), [parent()], empty).known == [parent()]
    newer = dataclasses.replace(nothing, version=2)
    assert plan_sweep(design(newer), [parent()], empty).unmeasurable == [parent()]


def test_a_parent_that_a_longer_run_holds_is_not_trained_for_its_child(store):
    """Nor is a grandparent forgotten: whole families are trained where all of them are missing."""
    spec = StudySpec("probes", (Measure("zeros", 1, zeros),), lambda m: (4, m.steps), lambda m: (4, m.steps))
    longer, shorter = parent(steps=10), parent()
    sweep.run(spec, [longer], store, progress=False, say=quiet)
    todo = plan_sweep(spec, [shorter, child(shorter)], store)
    assert todo.shorter == {shorter: longer}
    assert todo.missing == [child(shorter)]
    other = parent(seed=5)
    grandchild = child(child(other), sparsity=0.7)
    results.write(results.folder("probes"), sweep.tables(spec, store), {})
    assert plan_sweep(spec, [other, child(other), grandchild], store).missing == [other, child(other), grandchild]
    with pytest.raises(StoreError, match=f"run {other.key[:12]}, which is not stored"):
        plan_sweep(spec, [child(other), grandchild], store)
