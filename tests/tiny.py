"""Members, runs and tables so small, or made up, that a test of the store or of a figure takes no time."""

import dataclasses
import errno
import json
import math
import os
import re

import pandas as pd
import torch

from vaekit import data
from vaekit.distributions import Gaussian
from vaekit.fleet import new_model
from vaekit.store import SHORT, Member, Run, files, results, table
from vaekit.studies import rate_generalisation as study
from vaekit.sweep import compared_steps

ARGUMENTS = {"depth": 1, "hidden": 4, "latent_dim": 2}


def member(beta=0.1, seed=0, model_args=ARGUMENTS, **changes) -> Member:
    fields = {"model": "dense_vae", "data": "tetrominoes", "split": "cv", "objective": "beta", "steps": 20}
    fields |= {"n_train": 32, "n_test": 16, "batch_size": 8}
    return Member(**(fields | changes), model_args=model_args, weights={"beta": beta}, seed=seed)


def run_of(member: Member, steps=(16, 20), status="finished", reason="", **record) -> Run:
    """A run that was never trained: its weights are those of the start, moved a little with each step."""
    start = new_model(member.build, member.seed).state_dict()
    weights = {step: {name: (value + step / 1000).to(value.dtype) for name, value in start.items()} for step in steps}
    history = {"step": torch.tensor([member.steps]), "loss": torch.tensor([1 / 3], dtype=torch.float64)}
    return Run(member, status, reason, history, weights, {"study": study.SPEC.name, "hardware": "made up"} | record)


def settings(scale="quick", hidden=4, batch_size=8, n_test=16, **parameters) -> study.Settings:
    parameters = {"betas": [0.1, 1], "depths": [1], "steps": 20, "n_train": 32} | parameters
    chosen = study.Settings.at(scale, **parameters)
    return dataclasses.replace(chosen, hidden=hidden, batch_size=batch_size, n_test=n_test)


def value(member: Member, step: int, part: str, measure: str, arguments: str) -> float:
    """What `tables` says was measured: smooth in beta, and different for each of the arguments."""
    beta, depth = dict(member.weights)["beta"], dict(member.model_args)["depth"]
    code = 20 / (1 + beta) - depth - 0.01 * member.seed
    number = {
        "distortion": 60 + 10 * beta + depth + 1000 / step + 0.1 * member.seed + 5 * part.startswith("test"),
        "rate": code + part.startswith("test"),
        "distortion_floor": 40.0,
        "mutual_information": min(code, 3.4) + arguments.endswith("512") / 10,
        "marginal_kl": max(code - 3.4, 0.01) + arguments.endswith("512") / 10,
        "mi_ceiling": math.log(member.n_train or 2),
    }
    return number[measure] + {"samples=10": 0.01, "mean": 0.02}.get(arguments, 0)


def row_of(member: Member, status="finished") -> dict:
    """The row of members.csv of a member that took a second and a half."""
    recorded = dict.fromkeys(results.RECORDED) | {"status": status, "hardware": "made up", "wall_time": 1.5}
    recorded |= {"code_version": member.code_version, "data_identity": data.identity(member.data)}
    return {"key": member.key, **member.row(), **recorded}


def tables(members, status="finished", learning_curve=True) -> results.Tables:
    """Study 3's D, R and parts of R of these members, made up; a diverged member has no value.

    Without a learning curve, the whole sets' D and R are there at every snapshot instead, as they once were.
    """
    parts = ("train", "test", "test_a", "test_b")
    whole_sets, nested = (
        [(part, name, arguments) for part in names for name, arguments in (("distortion", "samples=1"), ("rate", ""))]
        for names in (parts, ("train_nested", "test_nested", "test_nested_a", "test_nested_b"))
    )
    always = nested if learning_curve else whole_sets
    late = whole_sets if learning_curve else []
    always += [
        ("train", name, f"estimator={arguments}")
        for name in ("mutual_information", "marginal_kl")
        for arguments in ("exact", "batch512")
    ]
    always += [("train", "mi_ceiling", "")]
    final = [(part, *what) for part in parts[:2] for what in (("distortion", "mean"), ("distortion_floor", ""))]
    final += [("test", "distortion", "samples=10")]
    filled = results.Tables()
    for m in members:
        filled.members[m.key] = row_of(m, status)
        filled.measures[m.key] = [
            {"member": m.key[:SHORT], "step": step, "part": part, "measure": name, "arguments": arguments}
            | {"value": value(m, step, part, name, arguments), "se": 0.5, "n": 16, "version": 1}
            for step in (study.measured_steps(m) if status == "finished" else ())
            for part, name, arguments in always
            + (late if step in compared_steps(m) else [])
            + (final if step == m.steps else [])
        ]
    return filled


def with_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """A made-up tidy table with a column for each of its `arguments`, as `table.frame` has them."""
    codes, texts = pd.factorize(rows["arguments"])
    return rows.assign(**table._argument_columns(texts.tolist(), codes, rows))


def held(shown) -> dict:
    """What a page holds of a widget: its data, what it begins at, and any weights in base64."""
    html = (shown.static() if hasattr(shown, "static") else shown)._repr_html_()
    weights = dict(re.findall(r'class="vaekit-weights" data-hash="(\w+)">(.*?)</script>', html))
    state = json.loads(re.search(r'application/json">(.*?)</script>', html)[1])
    return state | ({"weights": weights} if weights else {})


def posterior(mu, sd) -> Gaussian:
    """A Gaussian for each image: of this mean, a number or a row of them, and this sd."""
    mu = torch.as_tensor(mu, dtype=torch.float64).reshape(len(mu), -1)
    return Gaussian(mu, torch.full_like(mu, 2 * math.log(sd)))


def moved(shown) -> tuple[list, dict]:
    """What a playground begins at, and its data: axes, budgets and numbers as a reader sees them, not as ranks."""
    state = held(shown)
    data, points = state["data"], []
    for point in data["points"]:
        axes = {axis["name"]: axis["values"][rank] for axis, rank in zip(data["axes"], point["place"], strict=True)}
        at = {snapshot: dict(zip(data["series"], flats, strict=True)) for snapshot, flats in point["at"]}
        numbers = {data["numbers"][name]: text for name, text in point["numbers"]}
        budget = data["budgets"][point["budget"]]["label"]
        points.append(point | {"axes": axes, "at": at, "numbers": numbers, "budget": budget})
    return state["value"], data | {"points": points}


def notebook(path, *cells):
    """Write a notebook; a cell that is a text alone is of code."""
    import nbformat  # here, where no child needs it

    cells = [nbformat.v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


class FullDisk:
    """A disk that refuses the nth of all operations that change it (see `files.seam`); `calls` are their names."""

    def __init__(self, monkeypatch, nth: int):
        self.nth, self.calls = nth, []
        monkeypatch.setattr(files, "seam", self._call)

    @property
    def refused(self) -> bool:
        return len(self.calls) >= self.nth

    def _call(self, operation, path):
        self.calls.append(operation)
        if len(self.calls) == self.nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
