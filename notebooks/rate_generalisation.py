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
# # Rate and generalisation
#
# *After Bozkurt, Esmaeili, Tristan, Brooks, Dy and van de Meent, "Rate-Regularization and Generalization in VAEs", AISTATS 2021* {cite}`bozkurt2021rate`.

# %% tags=["parameters", "hide-input"]
scale: str = "quick"  # quick, short, paper or published: where all that is not given comes from
betas: list = None  # weights of the rate, numbers of at least 0, e.g. [0.1, 1]
seeds: list = None  # seed numbers, whole and at least 0, e.g. [0, 1, 2]
steps: int = None  # training steps of every member
data: list = None  # image sets, e.g. [tetrominoes]
split: str = None  # how images are divided: cv, random, checkerboard, cd or own
n_train: list = None  # images in the training set, e.g. [16384]; of a set with its own training images, else a tenth
models: list = None  # networks: dense_vae (fully connected), conv_vae (convolutional)
depths: list = None  # hidden layers on either side of the latent, e.g. [1, 3]
objective: str = None  # beta: D + beta R; mi_kl: D + mi MI + kl KL(q(z)||p(z))
mi: list = None  # weights of the mutual information in mi_kl, e.g. [0, 1]
kl: list = None  # weights of the marginal KL in mi_kl, e.g. [0, 1]
precision: str = None  # full, fp64 or bf16
device: str = None  # cpu or cuda
cluster: str = None  # none, local, a scheduler's address or a YAML file: where to train

# %% tags=["hide-input"]
from vaekit import pages, parameters
from vaekit.studies import rate_generalisation as study
from vaekit.studies.rate_generalisation import explore

settings = parameters.read(study.Settings, globals())
page = pages.StudyPage(study, settings)
page.status()

# %% [markdown]
# Every pair of points, filled for test and hollow for training images, is one beta: the rate that its networks pay over the distortion that they leave, the mean over seeds. Pin two and compare what they make of test images that lie far from any training image.

# %% tags=["hide-input", "full-width"]
explore.explore(page.shown, settings)

# %% [markdown]
# ## In one picture

# %% tags=["hide-input"]
page.scheme()

# %% [markdown]
# A VAE minimises $D + \beta R$: the distortion $D$ of its reconstructions and the rate $R$ of its latent, both in nats per image. The networks have one or three hidden layers on either side of a latent of ten dimensions.
#
# **Differences from the paper.**
#
# - Steps: 257,000 in the paper; each figure names its own. With fewer, an effect can be shown and not refuted, an absence refuted and not shown.
# - Tetrominoes are made to the paper's recipe, 163,840 images; the angle stops at 337.5 degrees, so that no image comes twice.
# - *Sparse* is CV(16k): 16,384 training images, spread over all of the factors; *dense* is CV(82k), half of all images.
# - Memorisation has a control: as many unseen images, lest a blurred reconstruction count as remembered.
# - Of convolutional networks padding, heads and the mirrored decoder are ours; the paper is silent.

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
# One small network from nothing to its point on the plane, 400 steps on a CPU:

# %%
import vaekit
from vaekit import figures

tetrominoes = vaekit.data.load("tetrominoes")
split = tetrominoes.split("cv", n_train=4096)
train = tetrominoes.take(split.train)
test = tetrominoes.take(split.test[:1024])

# %%
fleet = vaekit.train_fleet(
    lambda: vaekit.models.DenseVAE(hidden=64),
    losses.beta_objective,
    vaekit.grid(beta=[0.1, 1, 3], seed=[0]),
    train,
    budget=vaekit.Budget(steps=400, batch_size=64),
)
rows = vaekit.metrics.rd_table(fleet, train, "train")
rows += vaekit.metrics.rd_table(fleet, test, "test")

# %% mystnb={"image": {"width": "400px", "alt": "Distortion over rate of three small networks, for training and test images, a point for each of three betas."}}
figures.rate_distortion(rows)

# %% [markdown]
# ## Your turn
#
# <details><summary>Pin beta 0.001 as A and beta 2 as B. Which of them would you rather have store a test image, and which draw a new one?</summary>
#
# A stores it with less distortion but pays 80 nats for it; B's rate is so small that its reconstructions slide to what it saw in training. Its samples lie nearer to the data, since its latents fill the prior.
#
# </details>
#
# <details><summary>The training curve falls whatever beta is. Why is that no evidence of generalisation?</summary>
#
# The rate is what a network may say of an image. More of it always helps on the images that it was fitted to; on others only as far as what is said is common to both.
#
# </details>
#
# <details><summary>At beta 0.5 the information already sits at log N. What does a smaller beta buy?</summary>
#
# No more information about which training image it was: log 16,384 = 9.7 nats tell them all apart. What is added goes into the distance of the latents from the prior, the marginal KL.
#
# </details>

# %% [markdown]
# ## Open it
#
# `make lab` in a clone opens this page in JupyterLab, where the playground also trains a new member. From a shell, papermill trains what is missing and draws it beside what is stored:
#
# ```bash
# .venv/bin/papermill notebooks/rate_generalisation.ipynb out.ipynb \
#     -p betas "[0.25, 0.7]"
# ```
#
# {doc}`Running it <../running>` has longer runs and what they take, {doc}`Notation <../notation>` the words.
