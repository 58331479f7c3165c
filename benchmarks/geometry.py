"""2NN and Information Imbalance against DADApy and scikit-dimension: time, memory, and whether the values agree.

Ours are timed without error bars, which DADApy has none of on all points. DADApy's public function sorts both layers of
every pair again; beside it stands what its own parts can do, each layer sorted once. Memory is taken in a fresh process
for each contender: the highest resident set less that with the inputs loaded. scikit-dimension
has an environment of its own, made at the first run in the user's cache.
"""

import contextlib
import io
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks import timing
from benchmarks.peers.process import resident
from benchmarks.records import Row
from vaekit import data
from vaekit.fleet import Budget, FleetMember, train_fleet
from vaekit.losses import OBJECTIVES
from vaekit.metrics import information_imbalance, intrinsic_dimension
from vaekit.store import Member
from vaekit.studies import id_transition
from vaekit.sweep.plan import budget_of

ROUNDS = 3
DEVICE = "cpu"
Layers = Mapping[str, np.ndarray]
Values = dict[str, float]


def measure(rounds: int, only: str) -> Iterator[list[Row]]:
    """Yield the rows of one case after the other."""
    cases: dict[str, Callable[[str, int], list[Row]]] = {
        "II both ways, N = 5,000, D = 128, 1 thread": lambda case, n: _speed(case, n, _pair(5_000, 128), 1),
        "II both ways, N = 5,000, D = 128, 2 threads": lambda case, n: _speed(case, n, _pair(5_000, 128), 2),
        "II both ways, N = 5,000, D = 3,072, 1 thread": lambda case, n: _speed(case, n, _pair(5_000, 3_072), 1),
        "II both ways, N = 10,000, D = 128, 1 thread": lambda case, n: _memory(case, _pair(10_000, 128), CONTENDERS),
        "2NN, N = 5,000, D = 128, 1 thread": lambda case, n: _two_nn(case, n, _pair(5_000, 128)["a"]),
        "11 x 11 II and 11 IDs, N = 2,000, 1 thread": lambda case, n: _speed(case, n, _layers(2_000), 1),
        # Of vaekit alone: DADApy takes minutes.
        "11 x 11 II and 11 IDs, N = 5,000, 1 thread": lambda case, n: _memory(case, _layers(5_000), {OURS: _vaekit}),
    }
    for case, run in cases.items():
        if only in case:
            yield run(case, rounds)


# Contenders: layers to values, a pair's under "a > b", a layer's ID under its name ------------------------------------


def _vaekit(layers: Layers, threads: int) -> Values:
    torch.set_num_threads(threads)
    clouds = {name: torch.from_numpy(points) for name, points in layers.items()}
    imbalances = information_imbalance(clouds, half_subsets=0)
    values = {f"{a} > {b}": imbalance.value for (a, b), imbalance in imbalances.items()}
    if len(clouds) > 2:
        values |= {name: intrinsic_dimension(points, 0).value for name, points in clouds.items()}
    return values


def _dadapy(layers: Layers, threads: int) -> Values:
    import dadapy

    with warnings.catch_warnings(), threadpool_limits(threads), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # that the subset is the whole set, as the exact value needs
        if len(layers) == 2:
            (a, one), (b, other) = layers.items()
            compared = dadapy.MetricComparisons(coordinates=one, n_jobs=threads)
            forth, back = compared.return_information_imbalace(other, k=1, subset_size=len(one))
            return {f"{a} > {b}": float(forth[0]), f"{b} > {a}": float(back[0])}
        values = {}
        for name, points in layers.items():
            estimated = dadapy.IdEstimation(coordinates=points, n_jobs=threads)
            values[name] = float(estimated.compute_id_2NN()[0])
        for a, b in combinations(layers, 2):
            compared = dadapy.MetricComparisons(coordinates=layers[a], n_jobs=threads)
            forth, back = compared.return_information_imbalace(layers[b], k=1, subset_size=len(layers[a]))
            values |= {f"{a} > {b}": float(forth[0]), f"{b} > {a}": float(back[0])}
        return values


def _dadapy_parts(layers: Layers, threads: int) -> Values:
    """All pairs with each layer's neighbours sorted once: faster than DADApy's own way to the same values."""
    import dadapy
    from dadapy._utils.metric_comparisons import _return_imbalance

    with warnings.catch_warnings(), threadpool_limits(threads), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        near, values = {}, {}
        for name, points in layers.items():
            compared = dadapy.MetricComparisons(coordinates=points, n_jobs=threads)
            near[name], _ = compared._get_nn_indices(compared.X, None, None, len(points) - 1, force_computation=True)
            estimated = dadapy.IdEstimation(coordinates=points, n_jobs=threads)
            values[name] = float(estimated.compute_id_2NN()[0])
        rng = np.random.default_rng(0)
        pairs = permutations(layers, 2)
        return values | {f"{a} > {b}": float(_return_imbalance(near[a], near[b], rng, k=1)) for a, b in pairs}


OURS = "vaekit"
CONTENDERS = {OURS: _vaekit, "DADApy": _dadapy}


# Cases ----------------------------------------------------------------------------------------------------------------


def _speed(case: str, rounds: int, layers: Layers, threads: int) -> list[Row]:
    """Times in turns in one process, ratios to DADApy, and the largest relative difference of any value."""
    values: dict[str, Values] = {}
    takes = CONTENDERS | ({"DADApy's parts": _dadapy_parts} if len(layers) > 2 else {})
    contenders = {name: _keeping(values, name, take, layers, threads) for name, take in takes.items()}
    for take in takes.values():  # imports and first calls
        take({name: points[:50] for name, points in layers.items()}, threads)
    taken = timing.interleaved(contenders, rounds)
    rows = [Row.of(case, name, "s", timing.interval(seconds)) for name, seconds in taken.items()]
    rows += [
        Row.of(case, f"{peer} / {OURS}", "ratio", timing.ratio(taken[peer], taken[OURS]))
        for peer in takes
        if peer != OURS
    ]
    return rows + _differences(case, OURS, values[OURS], values["DADApy"])


def _keeping(values: dict[str, Values], name: str, take, layers: Layers, threads: int) -> Callable[[], None]:
    def run() -> None:
        values[name] = take(layers, threads)

    return run


def _differences(case: str, contender: str, values: Values, wanted: Values) -> list[Row]:
    """The largest relative differences from DADApy, of imbalances and of dimensions, as far as there are any."""
    rows = []
    for measure, of_pairs in (("II", True), ("ID", False)):
        quantity = f"largest relative difference of {measure}"
        if apart := [abs(values[name] / value - 1) for name, value in wanted.items() if (" > " in name) == of_pairs]:
            rows.append(Row(case, contender, quantity, max(apart), note="from DADApy's"))
    return rows


def _memory(case: str, layers: Layers, contenders: Mapping[str, Callable[[Layers, int], Values]]) -> list[Row]:
    """Time and peak memory of each contender, in a fresh process, once."""
    rows, values, peaks = [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, points in layers.items():
            np.save(Path(folder) / f"{name}.npy", points)
        for name, take in contenders.items():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                values[name], seconds, peaks[name] = fresh.submit(_alone, take, folder).result()
            rows += [Row(case, name, "s", seconds), Row(case, name, "MB above the inputs", peaks[name])]
    inputs = sum(points.nbytes for points in layers.values()) / 1e6
    rows.append(Row(case, "inputs", "MB", inputs))
    if "DADApy" in contenders:
        seconds = {row.contender: row.value for row in rows if row.quantity == "s"}
        rows.append(Row(case, f"DADApy / {OURS}", "ratio", seconds["DADApy"] / seconds[OURS]))
        rows.append(Row(case, f"{OURS} / DADApy", "ratio of MB above the inputs", peaks[OURS] / peaks["DADApy"]))
        rows += _differences(case, OURS, values[OURS], values["DADApy"])
    return rows


def _alone(take: Callable[[Layers, int], Values], folder: str) -> tuple[Values, float, float]:
    """In a fresh process: values, seconds, and MB of memory above what there was with the inputs loaded."""
    layers = {path.stem: np.load(path) for path in sorted(Path(folder).glob("*.npy"))}
    take({name: points[:50] for name, points in layers.items()}, 1)  # imports and first calls
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, from what is resident now
    before, begun = resident("VmRSS"), time.perf_counter()
    values = take(layers, 1)
    return values, time.perf_counter() - begun, (resident("VmHWM") - before) / 1e6


def _two_nn(case: str, rounds: int, points: np.ndarray) -> list[Row]:
    """2NN alone on one thread, with scikit-dimension in its own environment."""
    import dadapy

    values: dict[str, float] = {}

    def ours() -> None:
        torch.set_num_threads(1)
        values[OURS] = intrinsic_dimension(torch.from_numpy(points), 0).value

    def dadapys() -> None:
        with threadpool_limits(1):
            values["DADApy"] = float(dadapy.IdEstimation(coordinates=points, n_jobs=1).compute_id_2NN()[0])

    contenders: dict[str, Callable] = {OURS: ours, "DADApy": dadapys}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npy"
        np.save(path, points)
        absent = ""
        try:
            python = _scikit_dimension()

            def theirs() -> float:
                values["scikit-dimension"], seconds = _asked(python, path)
                return seconds

            theirs()
            contenders["scikit-dimension"] = theirs
        except (OSError, subprocess.CalledProcessError) as error:
            message = getattr(error, "stderr", "") or str(error)
            absent = f"not run: {message.strip().splitlines()[-1]}"
        taken = timing.interleaved(contenders, rounds)
    rows = [Row.of(case, name, "s", timing.interval(seconds)) for name, seconds in taken.items()]
    if absent:
        rows.append(Row(case, "scikit-dimension", "s", math.nan, note=absent))
    for name in contenders:
        if name != OURS:
            rows.append(Row.of(case, f"{name} / {OURS}", "ratio", timing.ratio(taken[name], taken[OURS])))
        if name != "DADApy":
            rows += _differences(case, name, {"a": values[name]}, {"a": values["DADApy"]})
    return rows


def _scikit_dimension() -> Path:
    """The Python of scikit-dimension's environment, which is made where it is not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaekit-benchmarks" / "scikit-dimension"
    python = home / "bin" / "python"
    done = home / "done"
    if not done.exists():
        for command in ([sys.executable, "-m", "venv", home], [python, "-m", "pip", "install", "scikit-dimension"]):
            subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, timeout=600)
        done.touch()
    return python


_SCRIPT = """
import sys, time, warnings
warnings.simplefilter("ignore")
import numpy, skdim
points = numpy.load(sys.argv[1])
skdim.id.TwoNN(discard_fraction=0.1).fit(points[:50])
begun = time.perf_counter()
dimension = skdim.id.TwoNN(discard_fraction=0.1).fit(points).dimension_
print(float(dimension), time.perf_counter() - begun)
"""


def _asked(python: Path, points: Path) -> tuple[float, float]:
    """scikit-dimension's value and its own seconds, on one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [str(python), "-I", "-c", _SCRIPT, str(points)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | one, timeout=600)
    value, seconds = map(float, done.stdout.split()[-2:])
    return value, seconds


# Inputs ---------------------------------------------------------------------------------------------------------------


def _pair(n: int, dimension: int) -> Layers:
    """Two clouds, of which each says something of the other; float32."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, dimension, generator=generator)
    return {"a": a.numpy(), "b": (a + torch.randn(n, dimension, generator=generator)).numpy()}


def _images() -> torch.Tensor:
    """Test images of the first available image set of study 1."""
    images = data.load(_member().data)
    return images.take(images.split("cv", 40_000).test[:5_000])


def _member() -> Member:
    """A member of study 1 at the paper's scale, K = 32."""
    name = data.available("cifar10", "cifar10_jpeg", "tetrominoes")
    return id_transition.members(id_transition.Settings.at("paper", data=name, latent_dims=(32,)))[0]


def _layers(n: int) -> Layers:
    """The eleven layers of study 1's net (K = 32) after ten steps, flattened, float32: those of n test images."""
    member, images = _member(), _images()
    budget = Budget(10, 256, weight_decay=budget_of(member).weight_decay)
    fleet = train_fleet(
        member.build, OBJECTIVES["beta"], [FleetMember(0, {"beta": 1})], images, budget=budget, progress=False
    )
    layers = id_transition.layers(fleet.model(0), images[:n], torch.arange(n), 0)
    del layers["mu"]
    return {name: values.flatten(1).numpy() for name, values in layers.items()}
