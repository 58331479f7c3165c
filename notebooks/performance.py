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
# How fast vaekit is, against what people use today, and against the targets that it set itself. Every number here comes
# from a table in `benchmarks/results/`, with the machine that it was taken on; none is typed. A speed is a ratio against a
# peer of the same run: both train the same models from the same starts, with the same batches, steps, precision and
# threads, in turns, so that a machine's drift meets both alike. In brackets: the 95 % interval over the rounds.

# %%
import sys

from vaekit import figures
from vaekit.store import CHECKOUT

sys.path.insert(0, str(CHECKOUT))  # benchmarks/ is the checkout's, not the installed package's
from benchmarks import pages

# %% [markdown]
# ## The machines
#
# A number belongs to its machine. What only a GPU or another processor could show is *not measured here*, below.

# %% tags=["full-width"]
figures.text_table(pages.machines())

# %% [markdown]
# ## The targets
#
# *Measured* is the number that decides: where several must hold, the one that comes nearest to missing, or misses.
# *Not slower* means that the interval of the ratio reaches 1 and its median is at least 0.95.

# %% tags=["full-width"]
figures.text_table(pages.judged())

# %% [markdown]
# ## What to quote
#
# Microseconds a model-step: the time of a training over the optimiser steps of all of its members together. A case says
# the model, the precision or another batch, and the size of the fleet; the batch is 128 else, study 1's 256.

# %% tags=["full-width"]
figures.text_table(pages.numbers("fleet", "us/model-step", "vaekit", "plain loop"))

# %% [markdown]
# On a GPU, beside the floor that the card's bandwidth and arithmetic set:

# %% tags=["full-width"]
figures.text_table(pages.values("gpu"))

# %% [markdown]
# ## Training, against others
#
# *Plain loop* is the loop that one would write, with torch's own layers: images in memory, one model after another, with all threads. The others
# are an ordinary DataLoader with transforms, Lightning, and pythae, each at its fastest number of workers.

# %% mystnb={"image": {"alt": "Ratios of training times on a logarithmic axis, a line for each model, precision and fleet size, a colour for each contender, with intervals and a dashed line at one."}, "figure": {"caption": "How many times as long others take as vaekit to train the same members. Right of the dashed line vaekit is faster.", "name": "fig-performance-fleet"}}
pages.ratios("fleet")

# %% [markdown]
# ## Intrinsic dimension and Information Imbalance, against others

# %% mystnb={"image": {"alt": "Ratios of the times of DADApy and scikit-dimension to vaekit's on a logarithmic axis, a line for each task, with intervals and a dashed line at one."}, "figure": {"caption": "How many times as long others take as vaekit for the same values. Right of the dashed line vaekit is faster.", "name": "fig-performance-geometry"}}
pages.ratios("geometry")

# %% [markdown]
# Seconds, peak memory above the inputs, and how far the values lie apart:

# %% tags=["full-width"]
figures.text_table(pages.values("geometry"))

# %% [markdown]
# ## What measures cost
#
# Beside the training of a member at the short scale (and of one of 20,000 steps, the least that decides claims 3.6 to
# 3.8). `likelihood`, a bound that takes minutes by nature, has rows of its
# own and is no part of *all measures*.

# %% tags=["full-width"]
figures.text_table(pages.values("measures"))

# %% [markdown]
# ## The store

# %% tags=["full-width"]
figures.text_table(pages.values("store"))

# %% [markdown]
# ## This book

# %% tags=["full-width"]
figures.text_table(pages.values("book"))

# %% [markdown]
# ## On your machine
#
# In a clone, once `make book` has made its environment:
#
# ```bash
# .venv/bin/python -m benchmarks fleet
# .venv/bin/python -m benchmarks geometry
# .venv/bin/python -m benchmarks measures
# .venv/bin/python -m benchmarks store
# .venv/bin/python -m benchmarks book
# .venv/bin/python -m benchmarks gpu
# .venv/bin/python -m benchmarks targets
# ```
#
# Each of the first six takes minutes to an hour and wants the machine for itself (`gpu` an NVIDIA card). `--only mlp1`
# runs the cases whose name holds that word, and `--rounds 3` takes fewer rounds. A run prints its table and merges it into `benchmarks/results/`, where a row
# replaces the one of the same case and machine; those of other machines stay. `targets` judges all that is there, and
# exits with 1 where a target is missed. `make book` then shows your numbers on this page. The tables:
# {download}`fleet.csv <../../benchmarks/results/fleet.csv>`,
# {download}`geometry.csv <../../benchmarks/results/geometry.csv>`,
# {download}`measures.csv <../../benchmarks/results/measures.csv>`,
# {download}`store.csv <../../benchmarks/results/store.csv>`,
# {download}`book.csv <../../benchmarks/results/book.csv>`.
