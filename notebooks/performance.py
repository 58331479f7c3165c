# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Performance
#
# How fast vaekit is, against what people use today, and against the targets that it set itself.

# %% tags=["hide-input"]
import sys

from vaekit import figures
from vaekit.store import CHECKOUT

sys.path.insert(0, str(CHECKOUT))  # benchmarks/ is the checkout's, not the installed package's
from benchmarks import pages

pages.in_words()

# %% [markdown]
# A speed is a ratio against a peer of the same run: both train the same models from the same starts, with the same
# batches, steps, precision and threads, in turns, so that a machine's drift meets both alike. *Plain loop* is the loop that
# one would write, with torch's own layers: images in memory, one model after another, with all threads. The others are
# an ordinary DataLoader with transforms, Lightning, and pythae, each at its fastest number of workers.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Ratios of training times on a logarithmic axis, a line for each model, precision and fleet size, a colour for each contender, with intervals and a dashed line at one."}, "figure": {"caption": "How many times as long others take as vaekit to train the same members. Right of the dashed line vaekit is faster.", "name": "fig-performance-fleet"}}
pages.ratios("fleet")

# %% [markdown]
# ## The targets
#
# *Measured* is the number that decides: where several must hold, the one that comes nearest to missing, or misses; in
# brackets its 95 % interval over the rounds. *Not slower* means that the interval of the ratio reaches 1 and its median is
# at least 0.95. A number belongs to its machine, and none is typed.

# %% tags=["full-width", "hide-input"]
figures.text_table(pages.judged())

# %% [markdown]
# ## All numbers, and yours
#
# The tables, with the machine of each row: {download}`fleet.csv <../../benchmarks/results/fleet.csv>`,
# {download}`geometry.csv <../../benchmarks/results/geometry.csv>` (intrinsic dimension and Information Imbalance, against
# DADApy and scikit-dimension), {download}`measures.csv <../../benchmarks/results/measures.csv>` (what measures cost beside
# the training), {download}`store.csv <../../benchmarks/results/store.csv>`,
# {download}`book.csv <../../benchmarks/results/book.csv>`. In a clone, once `make book` has made its environment:
#
# ```bash
# .venv/bin/python -m benchmarks fleet      # or geometry, measures, store, book, cluster, gpu
# .venv/bin/python -m benchmarks targets    # judges all that is there
# ```
#
# Each takes minutes to an hour and wants the machine for itself (`gpu` an NVIDIA card). `--only mlp1` runs the cases
# whose name holds that word, and `--rounds 3` takes fewer rounds. A run merges its table into `benchmarks/results/`, where
# a row replaces the one of the same case and machine; those of other machines stay. `targets` exits with 1 where a target
# is missed. `make book` then shows your numbers on this page.
