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
# # Trading rate between layers
#
# *After Xiao and Bamler, "Trading Information between Latents in Hierarchical Variational Autoencoders", ICLR 2023* {cite}`xiao2023trading`.

# %% tags=["parameters", "hide-input"]
scale: str = "quick"  # quick, short, paper or published: where all that is not given comes from
betas2: list = None  # weights of R(z2), numbers of at least 0, e.g. [0.1, 1, 10]
betas1: list = None  # weights of R(z1|z2), numbers of at least 0, e.g. [0.1, 1, 10]
models: list = None  # hierarchical VAEs, of ghvae and lvae, e.g. [ghvae, lvae]
seeds: list = None  # seed numbers, whole and at least 0, e.g. [0, 1, 2]
steps: int = None  # training steps of every member; 0: 500 epochs of 256 images
data: list = None  # image sets, e.g. [mnist_binary, cifar10_jpeg]
precision: str = None  # full, fp64 or bf16
device: str = None  # cpu or cuda
cluster: str = None  # none, local, a scheduler's address or a YAML file: where to train

# %% tags=["hide-input"]
from vaekit import pages, parameters
from vaekit.studies import hierarchical_rates as study
from vaekit.studies.hierarchical_rates import explore

settings = parameters.read(study.Settings, globals())
page = pages.StudyPage(study, settings)
page.status()

# %% [markdown]
# Every point is a stored network between its two rates. Pin two and compare what they reconstruct and what they draw.

# %% tags=["hide-input", "full-width"]
explore.explore(page.shown, settings)

# %% [markdown]
# ## In one picture

# %% tags=["hide-input"]
page.scheme()

# %% [markdown]
# A VAE with two layers of latents has two rates: $R(z_2)$, and $R(z_1|z_2)$ for what $z_1$ adds. Each has its own weight, $D + \beta_2 R(z_2) + \beta_1 R(z_1|z_2)$, so information can be moved from one layer to the other.
#
# **Differences from the paper.**
#
# - Steps: the paper trains 500 epochs of 256 images; each figure names its own budget.
# - The grid: the paper has 21 × 21 pairs of weights a set; here a sub-grid, with pictures at 6 × 6 of them.
# - Two misprints of the paper's tables are read as its parameter counts and its authors' code have them.
# - Small classifiers judge the samples unless the paper's own were trained.
# - A best of many is in part luck: one seed's grid names the members, three fresh seeds decide.

# %% [markdown]
# ## What was found

# %% tags=["hide-input", "full-width"]
page.found()

# %% [markdown]
# ## What lies behind it

# %% tags=["hide-input", "full-width"]
page.rest()

# %% [markdown]
# ## Not decided yet
#
# A claim that has no block above waits for these members. Hours, where they can be told, are those of all of them, from nothing; claims with the same options share them.

# %% tags=["hide-input", "full-width"]
page.not_run()

# %% [markdown]
# The claims about a best member wait for fresh seeds of the members that one seed's grid has named:

# %% tags=["hide-input"]
from vaekit.studies.hierarchical_rates import claims

print("\n".join(claims.commands(page.table)) or "None is lacking, or the grids are too small to name any.")

# %% [markdown]
# ## By hand
#
# The objective weighs the two rates apart:

# %%
import inspect

from vaekit import losses

print(inspect.getsource(losses.hierarchical_objective))

# %% [markdown]
# A small top-down VAE from nothing to its two rates, 40 steps on a CPU. So little training fills neither layer:

# %%
import pandas as pd
import torch

import vaekit

tetrominoes = vaekit.data.load("tetrominoes")
train = tetrominoes.take(torch.arange(0, 160_000, 80))
fleet = vaekit.train_fleet(
    lambda: vaekit.models.GHVAE(channels=8, latent_dim=8),
    losses.hierarchical_objective,
    vaekit.grid(beta2=[0.1, 1], beta1=[1], seed=[0]),
    train,
    budget=vaekit.Budget(steps=40, batch_size=32),
)

# %%
rows = []
for each in fleet:
    ends = {name: float(curve[-1]) for name, curve in each.history.items()}
    rows.append(dict(each.member.weights) | ends)
pd.DataFrame(rows).round(1)

# %% [markdown]
# ## Your turn
#
# <details><summary>Which of two networks with the same total rate reconstructs better: the one with more rate in <em>z</em><sub>1</sub>, or in <em>z</em><sub>2</sub>?</summary>
#
# The paper says in $z_1$, from which the image is decoded: rate in $z_2$ reaches the image through $z_1$ alone.
#
# </details>
#
# <details><summary>Why can a small R(<em>z</em><sub>2</sub>) be fatal for a classifier of <em>z</em><sub>2</sub>?</summary>
#
# The accuracy is bounded by what $z_2$ says of the label, and that is at most $R(z_2)$: with 0.1 nats no classifier of samples of $z_2$ is much better than guessing. One of their means $\mu_2$, which no noise has blurred, can be: see claim 2.11.
#
# </details>
#
# <details><summary>Both rates of a member are below 0.05 nats. What do its samples show?</summary>
#
# The mean image of the set: the decoder is told nothing.
#
# </details>

# %% [markdown]
# ## Open it
#
# `make lab` in a clone opens this page in JupyterLab, where the playground also trains a new member. From a shell, papermill trains what is missing and draws it beside what is stored:
#
# ```bash
# .venv/bin/papermill notebooks/hierarchical_rates.ipynb out.ipynb \
#     -p betas2 "[0.3]"
# ```
#
# `.venv/bin/python -m vaekit train hierarchical_rates --scale short --dry-run` says what a longer run takes; {doc}`Running it <../running>` has the rest, {doc}`Notation <../notation>` the words.
