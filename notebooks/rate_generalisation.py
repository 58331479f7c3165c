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
# *After Bozkurt, Esmaeili, Tristan, Brooks, Dy and van de Meent, "Rate-Regularization and Generalization in VAEs",
# AISTATS 2021* {cite}`bozkurt2021rate`.
#
# A VAE minimises $D + \beta R$: the distortion $D$ of its reconstructions and the rate $R$ of its code. The rate is
# often called a regulariser. Does it help a VAE to reconstruct images that it was **not** trained on? The paper's
# answer is mostly no: only a shallow network on sparse data has a best $\beta$ that is not the smallest. A deep one
# reconstructs unseen images the better, the less the rate weighs.
#
# This page draws the paper's figures 1, 2, 3 (its curves; the reconstructions above them are still to come) and 8, and
# lists its sixteen claims. Eight of them, 3.1 to 3.5, 3.7, 3.14 and 3.15, are put to the test by what is trained here;
# 3.9 and 3.10 need other sizes and splits; the rest wait for measures, models, data or an objective that are still to
# come, and read *not run*. Every figure says with what budget it was made. Below the paper's
# 257,000 steps an effect can be reproduced but not refuted, and an absence refuted but not reproduced.

# %% tags=["parameters"]
scale: str = "quick"  # quick, short, paper or published: where all that is not given comes from
betas: list = None  # weights of the rate, numbers of at least 0, e.g. [0.1, 1]
seeds: list = None  # seed numbers, whole and at least 0, e.g. [0, 1, 2]
steps: int = None  # training steps of every member
data: list = None  # image sets, e.g. [tetrominoes]
split: str = None  # how images are divided: cv, random, checkerboard, cd or own
n_train: list = None  # images in the training set, e.g. [16384]; of a set with its own training images, else a tenth
models: list = None  # networks: dense_vae (fully connected), conv_vae (convolutional)
depths: list = None  # hidden layers on either side of the code, e.g. [1, 3]
objective: str = None  # beta: D + beta R; mi_kl: D + mi MI + kl KL(q(z)||p(z))
mi: list = None  # weights of the mutual information in mi_kl, e.g. [0, 1]
kl: list = None  # weights of the marginal KL in mi_kl, e.g. [0, 1]
precision: str = None  # full, fp64 or bf16
device: str = None  # cpu or cuda

# %%
from vaekit import claims, figures, parameters
from vaekit.studies import rate_generalisation as study
from vaekit.studies.rate_generalisation import claims as ours
from vaekit.studies.rate_generalisation import figures as plots

settings = parameters.read(study.Settings, globals())

# %% [markdown]
# ## The data
#
# Tetrominoes: 163,840 images of one J-shaped piece, in every combination of angle, hue, size and place. What decides
# how hard it is to generalise is how the images are split (see {doc}`data`).

# %% mystnb={"image": {"alt": "A sheet of 96 small colour images, each a J-shaped tetromino of another place, size, angle and hue on black."}, "figure": {"caption": "The paper's figure 1: Tetrominoes, drawn at random.", "name": "fig-tetrominoes"}}
plots.figure_1()

# %% mystnb={"image": {"alt": "Four scatter plots of training and test images over two factors: mixed, in checkerboard blocks, in a smaller box, and few training images spread over all."}, "figure": {"caption": "The paper's figure 2: the four splits, shown over two of the five factors for images that lie near the middle of the other three. Above each: the number of training and test images.", "name": "fig-splits"}}
plots.figure_2()

# %% [markdown]
# *Look at* the two on the right: both have about 16,384 training images, but at constant density a test image has
# a training image nearby, and at constant volume it often has none. CV(16k) is the sparse problem of the claims below.

# %% [markdown]
# ## Training
#
# What is stored is taken; only what is missing is trained.

# %%
table = study.run(settings)
table.groupby(["split", "n_train", "steps", "hidden", "depth"])[["beta", "seed"]].agg(["nunique", "min", "max"])

# %% [markdown]
# ## Rate and distortion
#
# **Claim 3.1.** On dense data there is no memorisation: training and test distortion stay together.
# **Claim 3.3.** On sparse data, with one layer, the test distortion is U-shaped in $\beta$ while the training
# distortion only falls.

# %% mystnb={"image": {"alt": "Distortion over rate for training and test images, a panel for each depth and budget, a point for each beta, with a star at beta 1."}, "figure": {"caption": "The paper's figure 3: rate and distortion at the end of training, mean over seeds with standard deviation, one row a budget. Star: beta = 1. Grey diagonals: equal D + R, every 20 nats. Dotted: the floor of D, the entropy of the test images' own pixels.", "name": "fig-rate-distortion"}}
plots.figure_3(table)

# %% [markdown]
# *Look at* the right end of the test curve, where $\beta$ is smallest and the rate largest: claim 3.3 says that, for
# CV(16,384) and one layer, it turns up again there while the training curve does not. Only rows of CV(16,384) and
# CV(81,920) bear on the claims; the quick scale's CV(4,096) shows that all of this runs. The vertical gap between the
# curves is what the model does not generalise. Where rings are drawn, they mark the members that were asked for. The
# numbers, in nats per image:

# %% tags=["full-width"]
figures.text_table(plots.numbers(table))

# %% mystnb={"image": {"alt": "Test distortion over training steps on logarithmic axes, one curve for each beta, a panel for each depth and budget."}, "figure": {"caption": "Test distortion while training, mean over seeds, one row a budget.", "name": "fig-learning-curves"}}
plots.learning_curves(table)

# %% [markdown]
# *Look at* whether the curves have come to rest. Where they still fall or cross, the order over $\beta$ at the end
# is an accident of the budget; that is why a claim is computed at 0.8 and at 1.0 of the steps and is left undecided
# where the two disagree.

# %% [markdown]
# ## The two parts of the rate
#
# $R = I_q(x; z) + \mathrm{KL}(q(z) \Vert p(z))$: how much the code says of the image, and how far the codes together
# are from the prior. **Claim 3.14.** For $\beta < 1$ the mutual information sits at its ceiling $\log N$.
# **Claim 3.15.** The marginal KL is small for $\beta > 1$ and grows as $\beta$ falls.

# %% mystnb={"image": {"alt": "Mutual information and marginal KL over beta on logarithmic axes, by two estimators, with the ceiling log N as a dashed line."}, "figure": {"caption": "The paper's figure 8: the two parts of the rate over beta. Solid: q(z) over all N training images. Dotted: the paper's estimate from batches of 512, whose information comes out higher where it is below the ceiling. Dashed: the ceiling log N.", "name": "fig-rate-parts"}}
plots.figure_8(table)

# %% [markdown]
# *Look at* the green line: once it lies on the dashed one, a smaller $\beta$ cannot buy more information about the
# training images. All the rate that is added then goes into the pink line.

# %% [markdown]
# ## Verdicts
#
# Computed from the table that the figures are drawn from. *Outcome* and *scope* are two things: what was found, and
# on what it was measured. {doc}`scorecard` has the rules.

# %% tags=["full-width"]
figures.text_table(claims.verdict_table(ours.CLAIMS, table))

# %% [markdown]
# ## Move through it
#
# In JupyterLab (`make lab`), two sliders choose a member; its point and, where it was trained on the machine at hand,
# what it makes of sixteen test images follow. Nothing is trained by moving them. This page shows one place.

# %% mystnb={"image": {"alt": "The rate-distortion curve with one point ringed, beside test images and their reconstructions, or a note that its weights are not here."}, "figure": {"caption": "One member: its point on the curve, and test images above their reconstructions.", "name": "fig-explore-rate"}}
plots.explore(table, settings)

# %% [markdown]
# ## Do it again
#
# The figures' data: {download}`members.csv <../../results/rate_generalisation/members.csv>`,
# {download}`measures.csv <../../results/rate_generalisation/measures.csv>` and
# {download}`provenance.json <../../results/rate_generalisation/provenance.json>`. The command that trains two new
# weights of the rate at the quick scale, and draws them beside what is stored:
#
# ```bash
# .venv/bin/papermill notebooks/rate_generalisation.ipynb out.ipynb -p betas "[0.25, 0.7]"
# ```
#
# The command that would settle those eight claims at the paper's scale, on a GPU, and the one that shows them here:
#
# ```bash
# .venv/bin/python -m vaekit train rate_generalisation --scale paper -p device cuda
# .venv/bin/python -m vaekit export rate_generalisation
# ```
