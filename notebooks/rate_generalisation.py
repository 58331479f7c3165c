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
# **The question.** A VAE minimises $D + \beta R$: the distortion $D$ of its reconstructions and the rate $R$ of its
# latent, both in nats per image. The rate is often called a regulariser. Does it help a VAE to reconstruct images that
# it was *not* trained on?
#
# **The paper's answer.** Mostly no. Where training images are dense, nothing is memorised at any $\beta$. Where they are
# sparse, only a shallow network has a best $\beta$ that is not the smallest. A deep network reconstructs unseen images
# better the less the rate weighs, and it memorises at *large* $\beta$. The prior costs generalisation, not the
# information in the latent.
#
# **Ours.** The paper trained each network for 257,000 steps and five seeds. Each figure here names the budget of its
# members, and rules that were fixed beforehand judge the claims: short of the paper's steps an effect can be
# reproduced but not refuted, and an absence refuted but not reproduced. The table below has the verdicts, the end of the
# page the commands that would settle the rest. A *member* is one trained network; its *budget* is what
# it was trained on and with: steps, batch, width. {doc}`Notation <../notation>` has the other words.

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

# %%
from vaekit import claims, figures, parameters
from vaekit.studies import rate_generalisation as study
from vaekit.studies.rate_generalisation import claims as ours
from vaekit.studies.rate_generalisation import explore
from vaekit.studies.rate_generalisation import figures as plots

settings = parameters.read(study.Settings, globals())

# %% tags=["full-width"]
table = study.run(settings)
verdicts = claims.verdicts(ours.CLAIMS, table)
figures.text_table(claims.in_brief(verdicts))

# %% [markdown]
# ## Move through it
#
# Choose a budget, a depth and a $\beta$: the ring moves on the curve, and with it what the member makes of eight test
# images that are hard to reconstruct, far from any training image (at the 90th percentile of the distance to the nearest
# one).

# %%
explore.explore(table, settings)

# %% [markdown]
# *Look at* the last two rows of pictures as $\beta$ grows. A reconstruction that is nearer to a training image than to
# its own target may have been remembered; but a poor one is nearer to many images, also to those that the network never
# saw. So the numbers have a control: as many test images, which are like the training images in all but the training. A
# network that remembers nothing is as often nearer to them, however blurred it is, and its preference for training images
# is 0; claim 3.6 rests on that. Both shares stand below it. (Members that were trained before it was measured do not have
# it.)

# %% [markdown]
# ## The data
#
# Tetrominoes: 163,840 images of one J-shaped piece, in every combination of angle, hue, size and place. The way of
# splitting them decides how hard it is to generalise (see {doc}`data`).

# %% mystnb={"image": {"alt": "A sheet of 96 small colour images, each a J-shaped tetromino of another place, size, angle and hue on black."}, "figure": {"caption": "The paper's figure 1: Tetrominoes, drawn at random.", "name": "fig-tetrominoes"}}
explore.figure_1()

# %% mystnb={"image": {"alt": "Four scatter plots of training and test images over two factors: mixed, in checkerboard blocks, in a smaller box, and few training images spread over all."}, "figure": {"caption": "The paper's figure 2: the four splits, shown over two of the five factors for images that lie near the middle of the other three. Above each: the number of training and test images.", "name": "fig-splits"}}
explore.figure_2()

# %% [markdown]
# *Look at* the two on the right: both have about 16,384 training images, but at constant density (CD) a test image has
# a training image nearby, and at constant volume (CV) it often has none. CV(16k) is the sparse problem of the claims
# below, CV(82k) the dense one.

# %% [markdown]
# ## Dense and sparse, shallow and deep
#
# **Claim 3.1.** On dense data there is no memorisation: training and test distortion stay together.
# **Claim 3.2.** There, three layers dominate one. **Claim 3.3.** On sparse data, with one layer, the test distortion is
# U-shaped in $\beta$ while the training distortion only falls. **Claim 3.5.** With three layers it keeps falling.
# **Claims 3.7 and 3.8.** With three layers, the ELBO and the likelihood of test images peak near $\beta = 0.1$.

# %% mystnb={"image": {"alt": "Distortion over rate for training and test images, a panel for each depth and budget, a point for each beta, with a star at beta 1."}, "figure": {"caption": "The paper's figure 3: rate and distortion at the end of training, mean over seeds with standard deviation, each budget by itself. Star: beta = 1. Grey diagonals: equal D + R. Dotted: the floor of D, the entropy of the test images' own pixels.", "name": "fig-rate-distortion"}}
plots.figure_3(table)

# %% [markdown]
# *Look at* the right end of the test curve, where $\beta$ is smallest and the rate largest: does it turn up again while
# the training curve does not? The vertical gap between the two is what the model does not generalise. CV(16,384) and
# CV(81,920), which is a random half, bear on the claims from 20,000 steps on; CV(4,096) is the quick scale, which shows
# that all of this runs. The numbers, in nats per image:

# %% tags=["full-width"]
figures.text_table(plots.numbers(table))

# %% mystnb={"image": {"alt": "For each depth, rows of small colour images: test images, their reconstructions at each beta, and below each reconstruction the training image nearest to it."}, "figure": {"caption": "The paper's figure 3, its pictures: test images that are hard to reconstruct, at the 90th percentile of the distance to the nearest training image; what members of one seed make of them, by beta; and, below, the training image nearest to each reconstruction.", "name": "fig-reconstructions"}}
explore.figure_3_pictures(table, settings)

# %% [markdown]
# *Look at* whether a reconstruction has the shape of its test image, in the first column, or that of the training
# image below it. **Claim 3.6** says that the second happens at large $\beta$ with three layers: that there the preference
# for training images, above, is larger than at small $\beta$.

# %% mystnb={"image": {"alt": "Test distortion over training steps on logarithmic axes, one curve for each beta, a panel for each depth and budget."}, "figure": {"caption": "Distortion while training, on the same test images at every step (the first 10,000; of members without that measure, all), mean over seeds, each budget by itself.", "name": "fig-learning-curves"}}
plots.learning_curves(table)

# %% [markdown]
# *Look at* whether the curves have come to rest. Where they still fall or cross, the order over $\beta$ at the end
# is an accident of the budget; that is why a claim is computed at 0.8 and at 1.0 of the steps and is left undecided
# where the two disagree.
#
# **Claim 3.4.** With early stopping, the U of claim 3.3 goes away.

# %% mystnb={"image": {"alt": "Test distortion over beta, at the end of training and at each member's best snapshot, a panel for each depth and budget."}, "figure": {"caption": "What early stopping would change: distortion on one half of those test images at the end, and at the snapshot that was best on the other half; mean over seeds with standard deviation.", "name": "fig-early-stopping"}}
plots.early_stopping(table)

# %% [markdown]
# *Look at* where the two curves part: there the member was better before the end than at it. With one layer the claim
# needs that at small $\beta$.

# %% [markdown]
# ## How many training images, and how near
#
# **Claim 3.9.** At constant volume, the difference between one and three layers grows as the training set shrinks.
# **Claim 3.10.** At constant density it is much smaller: it is not the number of images that counts.

# %% mystnb={"image": {"alt": "Four panels of test distortion over rate, for constant volume and constant density, one and three layers, a curve for each size of the training set."}, "figure": {"caption": "The paper's figure 4: test curves by size of the training set, mean over seeds with standard deviation.", "name": "fig-sizes"}}
plots.figure_4(table)

# %% [markdown]
# **Claim 3.11.** The checkerboard has as many training images as CV(82k) but generalises like CV(16k), since its test
# images lie about as far from the training images as there.

# %% mystnb={"image": {"alt": "Test curves of three splits for one and for three layers, and a histogram of the distance of test images to the nearest training image in each split."}, "figure": {"caption": "The paper's figure 5, and the histogram of its appendix: three splits, and how far their test images lie from the nearest training image.", "name": "fig-checkerboard"}}
plots.figure_5(table)

# %% [markdown]
# *Look at* the histogram, which no training changes: which of the other two does the checkerboard resemble?

# %% [markdown]
# ## Other networks, other data
#
# **Claim 3.12.** With convolutions, three layers keep falling and one layer only mildly fails to.
# **Claim 3.13.** On other data, one layer has a minimum in most sets.

# %% mystnb={"image": {"alt": "Four panels of distortion over rate on training and test images, for fully connected and convolutional networks of one and three layers."}, "figure": {"caption": "The paper's figure 6: CV(16k), fully connected and convolutional networks.", "name": "fig-convolutions"}}
plots.figure_6(table)

# %% mystnb={"image": {"alt": "Four panels of test distortion over rate, one for each of Fashion-MNIST, MNIST, SmallNORB and 3dShapes, with one and three layers."}, "figure": {"caption": "The paper's figure 7: other data, a tenth of the training images.", "name": "fig-other-data"}}
plots.figure_7(table)

# %% [markdown]
# ## The two parts of the rate
#
# $R = I_q(x; z) + \mathrm{KL}(q(z) \Vert p(z))$: how much the latent says of the image, and how far the latents together
# are from the prior. **Claim 3.14.** For $\beta < 1$ the mutual information sits at its ceiling $\log N$.
# **Claim 3.15.** The marginal KL is small for $\beta > 1$ and grows as $\beta$ falls.

# %% mystnb={"image": {"alt": "Mutual information and marginal KL over beta on logarithmic axes, by two estimators, with the ceiling log N as a dashed line."}, "figure": {"caption": "The paper's figure 8: the two parts of the rate over beta. Solid: q(z) over all N training images. Dotted: the paper's estimate from batches of 512, which lies on the solid line but where the information is below the ceiling, and above it there. Dashed: the ceiling log N.", "name": "fig-rate-parts"}}
plots.figure_8(table)

# %% [markdown]
# *Look at* the green line: once it lies on the dashed one, a smaller $\beta$ cannot buy more information about the
# training images. All the rate that is added then goes into the pink line.
#
# **Claim 3.16.** So take one of the two out of the loss, which the objective `mi_kl` does, $D + w_{\mathrm{MI}} I +
# w_{\mathrm{KL}} \mathrm{KL}$: without the marginal KL the test distortion should improve, without the information it
# should not.

# %% mystnb={"image": {"alt": "Test distortion after training with the mutual information and the marginal KL each in or out of the loss."}, "figure": {"caption": "Test distortion with either part of the rate in the loss or out of it; 3 layers, mean over seeds with standard deviation.", "name": "fig-parts-removed"}}
plots.parts_removed(table)

# %% [markdown]
# *Look at* the steps first: after the quick scale's 1,000, every reconstruction is a blob, and the order of the four says
# nothing of the claim.

# %% [markdown]
# ## A decoder to move
#
# Ten sliders for the ten dimensions of a latent, and the picture that the decoder of a stored member makes of it, in your
# browser. Find the dimensions that turn the piece, and those that do nothing: a latent that pays for its rate leaves
# dimensions empty.

# %%
explore.decode(table, settings)

# %% [markdown]
# ## Verdicts
#
# Computed from the table that the figures are drawn from. *Outcome* and *scope* are two things: what was found, and
# on what it was measured. {doc}`scorecard` has the rules.

# %% tags=["full-width"]
figures.text_table(claims.as_table(verdicts))

# %% [markdown]
# ## Do it again
#
# The command that trains two new weights of the rate at the quick scale, and draws them beside what is stored:
#
# ```bash
# .venv/bin/papermill notebooks/rate_generalisation.ipynb out.ipynb \
#     -p betas "[0.25, 0.7]"
# ```
#
# These commands would settle the claims, at the paper's scale and on a GPU. After each,
# `.venv/bin/python -m vaekit export rate_generalisation` shows here what it trained:
#
# ```bash
# train() {
#   .venv/bin/python -m vaekit train rate_generalisation --scale paper -p device cuda "$@"
# }
# # 3.1 to 3.8, 3.14, 3.15
# train
# # 3.9
# train -p n_train "[8192, 16384, 32768, 57344]"
# # 3.10
# train -p n_train "[8192, 16384]" -p split cd
# # 3.11
# train -p split checkerboard
# # 3.12
# train -p n_train "[16384]" -p models "[conv_vae]"
# # 3.13
# train -p data "[fashion_mnist, mnist, small_norb, shapes3d]"
# # 3.16
# train -p n_train "[16384]" -p objective mi_kl -p depths 3
# ```
#
# With `--dry-run` each says how long it will take, and trains nothing. `--scale short`, 50,000 steps and three seeds, is
# the least that decides most of the claims.
