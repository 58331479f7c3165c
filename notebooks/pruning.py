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
# # Disentanglement and pruning
#
# *After Shneider, Rostami, Kacem, Sinha, Shabayek and Aouada, "Impact of Disentanglement on Pruning Neural Networks", 2023* {cite}`shneider2023impact`.

# %% tags=["parameters", "hide-input"]
scale: str = "quick"  # quick, short, paper or published: where all that is not given comes from
betas: list = None  # weights of the rate, numbers of at least 0, e.g. [1, 5]
lambdas: list = None  # weights of the cross-entropy, of at least 0; not given: 100 in sum, 1 in pixel_mean
readings: list = None  # how the reconstruction is reduced: sum, pixel_mean
sparsities: list = None  # shares of the weights that are pruned, of at least 0 and below 1, e.g. [0.5, 0.9]
arms: list = None  # gradual, both, one_shot, structured, dense, no_decoder, baseline
seeds: list = None  # seed numbers, whole and at least 0, e.g. [0, 1, 2]
epochs: int = None  # epochs of training
tuning_epochs: int = None  # epochs of pruning, on top
n_train: int = None  # training images, 0 for all that the set has
data: list = None  # image sets with labels, e.g. [mnist, cifar10]
precision: str = None  # full, fp64 or bf16
device: str = None  # cpu or cuda
cluster: str = None  # none, local, a scheduler's address or a YAML file: where to train

# %% tags=["hide-input"]
from vaekit import pages, parameters
from vaekit.studies import pruning as study
from vaekit.studies.pruning import explore

settings = parameters.read(study.Settings, globals())
page = pages.StudyPage(study, settings)
page.status()

# %% [markdown]
# Every point is a stored network: the share of its weights that is gone over the accuracy that is left. Pin two and compare.

# %% tags=["hide-input", "full-width"]
explore.explore(page.shown, settings)

# %% [markdown]
# ## In one picture

# %% tags=["hide-input"]
page.scheme()

# %% [markdown]
# A VAE whose latent is also classified minimises $D + \beta R + \lambda H$, with the cross-entropy $H$ of a linear classifier of $z$. Then the decoder is dropped, half of the encoder's weights are set to zero, and the rest is tuned for two epochs.
#
# **Differences from the paper.**
#
# - The paper does not say how it reduces $D$. Claims ask for both readings; each figure names its own. *Sum*: all terms in nats per image, $\lambda = 100$. *Pixel mean*: $D$ averaged over the values of an image, $\lambda = 1$.
# - Read as *pixel mean*, a nat of rate costs $\beta$ and saves at most one nat of $H$ and a few hundredths of $D$. For $\beta > 1$ nothing is worth carrying: the best network guesses, and pruning it costs nothing.
# - The layers, the optimiser and the ramp of the pruning (cubic {cite}`zhu2018prune`) are ours: the paper is silent.
# - Every pruned network stands beside the same network tuned as long without pruning; without it a comparison says nothing.
# - Compression is decided on bytes: of parameters it is the same by construction.
# - A JPEG copy of CIFAR-10 stands for the original where that is not at hand.

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
# ## By hand
#
# The objective in both readings:

# %%
import inspect

from vaekit import losses

print(inspect.getsource(losses.classifier_sum_objective))
print(inspect.getsource(losses._classifier_objective))

# %% [markdown]
# A small classifier VAE of six sizes of sprites, from nothing to its accuracy (%) without half and nine tenths of its weights, 200 steps on a CPU, and not tuned:

# %%
import torch
from torch import nn

import vaekit
from vaekit.pruning import magnitude_masks

sprites = vaekit.data.load("dsprites_like")
rows = torch.arange(0, 737_000, 360)
images = nn.functional.max_pool2d(sprites.take(rows).float(), 4).byte()
sizes = sprites.factors[rows, 1].unique(return_inverse=True)[1]

# %%
network = vaekit.models.ClassifierVAE
weights = {"beta": [1], "lambda": [1000], "reconstruction": [1]}
fleet = vaekit.train_fleet(
    lambda: network((1, 16, 16), channels=(8, 16), classes=6),
    losses.classifier_sum_objective,
    vaekit.grid(**weights, seed=[0]),
    images,
    sizes,
    budget=vaekit.Budget(steps=200, batch_size=64, lr=3e-3),
)

# %%
model, accuracy = fleet.model(0), {}
encoder = model.encoder.named_parameters(prefix="encoder")
layers = {name: value for name, value in encoder if value.dim() > 1}
inputs = images / 255, {"z": torch.zeros(len(images), 10)}
for share in (0, 0.5, 0.9):
    masks = magnitude_masks(layers, share)
    pruned = {name: value * masks[name] for name, value in layers.items()}
    made = torch.func.functional_call(model.eval(), pruned, inputs)
    right = made["y"].argmax(1) == sizes
    accuracy[share] = round(100 * right.double().mean().item(), 1)
accuracy

# %% [markdown]
# ## Your turn
#
# <details><summary>A latent that names one of ten classes has a rate of log 10 = 2.3 nats. In which reading does it pay at beta 10?</summary>
#
# In *sum*: it saves 230 of cross-entropy and costs 23. In *pixel mean* it saves 2.3 and costs 23, so the network is driven to say nothing.
#
# </details>
#
# <details><summary>Does unstructured pruning make a network faster?</summary>
#
# Not on a dense machine: zeros are multiplied, too. Only whole channels take operations away; zeros save bytes.
#
# </details>
#
# <details><summary>Why is a fall in accuracy at beta 10 no proof of collapse?</summary>
#
# Collapse is a latent that no longer depends on the image: count its active units. Accuracy can fall while they are there.
#
# </details>

# %% [markdown]
# ## Open it
#
# `make lab` in a clone opens this page in JupyterLab, where the playground also trains a new member. From a shell, papermill trains what is missing and draws it beside what is stored:
#
# ```bash
# .venv/bin/papermill notebooks/pruning.ipynb out.ipynb \
#     -p sparsities "[0.8, 0.95]"
# ```
#
# `.venv/bin/python -m vaekit train pruning --scale short --dry-run` says what a longer run takes; {doc}`Running it <../running>` has the rest, {doc}`Notation <../notation>` the words.
