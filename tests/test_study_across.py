"""Across the papers: study 4's networks with the measures of all studies, each as its own study takes it."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from vaekit import sweep
from vaekit.metrics import encode, information, information_imbalance, intrinsic_dimension, probe_accuracy
from vaekit.store import Store, load
from vaekit.store.table import frame, select
from vaekit.studies import across as study
from vaekit.studies import id_transition, pruning
from vaekit.studies.across import relations

GIVEN = {"betas": (0.5, 2), "n_train": 64, "epochs": 10, "tuning_epochs": 1}
TINY = {"n_test": 60, "width": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store of two families, and the members."""
    store = Store(tmp_path_factory.mktemp("across"))
    members = study.members(replace(study.Settings.at("quick", **GIVEN), **TINY))
    sweep.run(study.SPEC, members, store, progress=False, say=lambda line: None)
    return store, members


def test_the_short_scale_is_eight_betas_and_five_seeds_each_with_two_children():
    members = study.networks(study.Settings.at("published", data=("mnist", "dsprites_like32")))
    parents = [member for member in members if not member.arm]
    assert len(members) == 3 * len(parents) == 3 * 2 * 8 * 5
    assert {(member.data, member.steps, member.n_train, member.split) for member in parents} == {
        ("mnist", 4_688, None, "own"),
        ("dsprites_like32", 5_000, 20_000, "cv"),
    }
    betas = sorted({dict(member.weights)["beta"] for member in parents})
    ratios = [math.log10(b / a) for a, b in pairwise(betas)]
    assert (betas[0], betas[-1]) == (0.1, 10)
    assert ratios == pytest.approx([2 / 7] * 7, abs=0.01)


def test_networks_are_those_of_study_4_which_measures_them_alike(trained):
    """The same settings give the same members, and what study 4 takes of them has the same rows."""
    _, members = trained
    chosen = GIVEN | {"data": ("dsprites_like32",), "readings": ("sum",), "lambdas": (100,), "seeds": (0,)}
    settings = replace(pruning.Settings.at("quick", **chosen, arms=("gradual", "dense"), sparsities=(0.9,)), **TINY)
    assert members == pruning.members(settings)
    ours = {measure.name: measure for measure in study.SPEC.measures}
    for measure in pruning.SPEC.measures:
        if measure.name in ours:
            assert ours[measure.name] == measure
    for member in members:
        assert study.SPEC.measured_steps(member) == pruning.SPEC.measured_steps(member)
        assert {*study.saved_steps(member)} >= {*pruning.SPEC.saved_steps(member)}


def test_every_measure_that_the_page_reads_is_taken(trained):
    store, members = trained
    table = frame(sweep.tables(study.SPEC, members=members, store=store))
    measured = relations.values(table[table["key"].isin([member.key for member in members])])
    assert len(measured) == 2
    assert not measured.columns[measured.isna().all()].tolist()


def test_every_measure_is_the_metric_of_the_stored_network(trained):
    store, members = trained
    parent = members[0]
    table = frame(sweep.tables(study.SPEC, members=members, store=store))
    for step in study.ends(parent):
        rows = table[(table["key"] == parent.key) & (table["step"] == step)]
        model, images = load(parent.key, step, store), sweep.examples_of(parent)
        q, value = (
            encode(model, images.test),
            dict(zip(rows["measure"] + rows["arguments"].fillna(""), rows["value"], strict=True)),
        )
        points = id_transition.layers(
            model, images.test, images.test_rows, parent.seed, names={"z": "z", "output": "out"}
        )
        points["in"] = images.test.float() / 255
        deltas = information_imbalance(points, [("out", "in"), ("in", "z")], half_subsets=4)
        assert value["information_imbalancefrom=output,to=input"] == deltas["out", "in"].value
        assert value["information_imbalancefrom=input,to=z"] == deltas["in", "z"].value
        assert value["intrinsic_dimensionlayer=mu"] == intrinsic_dimension(q.mu).value
        assert value["probe_accuracyprobe=knn"] == probe_accuracy("knn", q.mu, images.test_labels, parent.seed).value
        exact = information(encode(model, images.train), parent.seed, "exact")
        assert value["mutual_informationestimator=exact"] == exact.mutual_information
    children = table[table["key"].isin([member.key for member in members if member.arm])]
    assert {*children["measure"]}.isdisjoint({"intrinsic_dimension", "probe_accuracy", "mutual_information"})
    assert {*select(children, "accuracy")["arm"]} == {"gradual", "dense"}
