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
# # Intrinsic dimension and Information Imbalance
#
# *After Camboulin, Doimo and Glielmo, "Understanding Variational Autoencoders with Intrinsic Dimension and Information Imbalance", 2024* {cite}`camboulin2024understanding`.

# %% tags=["parameters", "hide-input"]
scale: str = "quick"  # quick, short, paper or published: where all that is not given comes from
latent_dims: list = None  # sizes K of the latent, whole and at least 1, e.g. [2, 32, 128]
epochs: list = None  # checkpoints to show, of 0, 1, 2, 5, 10, 20, 50, 75, 100, 150, 200; the last ends the training
seeds: list = None  # seed numbers, whole and at least 0, e.g. [0, 1, 2]
data: list = None  # image sets, e.g. [cifar10_jpeg, mnist32]
n_train: int = None  # training images; 0 is 80 % of the set's own
noise: list = None  # fresh, or frozen: the first epoch's noise and batches in every epoch
precision: str = None  # full, fp64 or bf16
device: str = None  # cpu or cuda
cluster: str = None  # none, local, a scheduler's address or a YAML file: where to train

# %% tags=["hide-input"]
from vaekit import pages, parameters
from vaekit.studies import id_transition as study
from vaekit.studies.id_transition import explore

settings = parameters.read(study.Settings, globals())
page = pages.StudyPage(study, settings)
page.status()

# %% [markdown]
# Every line is a stored network: the dimension of each of its layers, from the image to the output. Pin two and compare.

# %% tags=["hide-input", "full-width"]
explore.explore(page.shown, settings)

# %% [markdown]
# ## In one picture

# %% tags=["hide-input"]
page.scheme()

# %% [markdown]
# Send 5,000 test images through a VAE and look at the cloud of points that each layer makes of them. **Intrinsic dimension**, by 2NN {cite}`facco2017estimating`, says how many dimensions it has; its value belongs to the number of points. **Information Imbalance** $\Delta(A \to B)$ {cite}`glielmo2022ranking` says whether neighbours in one layer are neighbours in another: about 0, $A$ predicts $B$; about 1, it says nothing of it. Layers: 0 is the image, 1 to 4 are the encoder's, 5 is the sampled latent $z$, 6 to 9 the decoder's, 10 is the output.
#
# **Differences from the paper.**
#
# - Epochs: the paper has 200; each figure names its own. Below them nothing is decided but claim 1.1, which needs no training.
# - A JPEG copy of CIFAR-10 stands for the original where that is not at hand; it decides claims about the network alone.
# - Noise is fresh at every step. The authors' loop seems to repeat it at every epoch, so a second phase here cannot come from fitting it; `-p noise frozen` repeats it, and {doc}`Across the papers <across>` compares both.
# - Two of the published numbers say something else than the text, and then the numbers decide: the encoder's hump is there for every $K$, and the decoder's grows gradually.
# - $K = 16$ is no target: its published numbers look stale.

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
# The objective is two lines:

# %%
import inspect

from vaekit import losses

print(inspect.getsource(losses.beta_objective))

# %% [markdown]
# A network with batch normalisation from nothing to its dimensions, 60 steps on a CPU. So little training shows noise:

# %%
import torch

import vaekit
from vaekit.metrics import intrinsic_dimension

tetrominoes = vaekit.data.load("tetrominoes")
train = tetrominoes.take(torch.arange(0, 160_000, 80))
test = tetrominoes.take(torch.arange(40, 160_000, 320))

# %%
network = {"depth": 2, "channels": 8, "latent_dim": 8, "batch_norm": True}
fleet = vaekit.train_fleet(
    lambda: vaekit.models.ConvVAE(**network),
    losses.beta_objective,
    vaekit.grid(beta=[1], seed=[0]),
    train,
    budget=vaekit.Budget(steps=60, batch_size=64),
)

# %%
noise = {"z": torch.zeros(len(test), 8)}
layers = fleet.model(0).representations(test / 255, noise)
{
    name: round(intrinsic_dimension(values.detach().flatten(1)).value, 1)
    for name, values in layers.items()
    if name != "z"
}

# %% [markdown]
# ## Your turn
#
# <details><summary>The dimension of <em>z</em> for <em>K</em> = 8 is about 8. Is that a finding about the images?</summary>
#
# No. 2NN finds about $K$ dimensions in Gaussian noise of $K$ dimensions, too, and in the latents of untrained networks.
#
# </details>
#
# <details><summary>Where must the curve of dimensions bend if the network forgets nothing on its way?</summary>
#
# Nowhere: an invertible map keeps the dimension. A fall means that something was dropped, a rise that noise was added or that a fold was opened.
#
# </details>
#
# <details><summary>Why are no two values compared that rest on different numbers of images?</summary>
#
# 2NN's estimate grows with the number of points: the JPEG copy of CIFAR-10 has 24 dimensions with 1,000 images and 31 with 10,000.
#
# </details>

# %% [markdown]
# ## Open it
#
# `make lab` in a clone opens this page in JupyterLab, where the playground also trains a new member. From a shell, papermill trains what is missing and draws it beside what is stored:
#
# ```bash
# .venv/bin/papermill notebooks/id_transition.ipynb out.ipynb \
#     -p latent_dims "[16]"
# ```
#
# `.venv/bin/python -m vaekit train id_transition --scale short --dry-run` says what a longer run takes; {doc}`Running it <../running>` has the rest, {doc}`Notation <../notation>` the words.
