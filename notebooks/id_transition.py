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
# *After Camboulin, Doimo and Glielmo, "Understanding Variational Autoencoders with Intrinsic Dimension and Information
# Imbalance", 2024* {cite}`camboulin2024understanding`.
#
# Send 5,000 test images through a VAE and look at the cloud of points that each layer makes of them. How many
# dimensions has it? And do neighbours in one layer stay neighbours in the next? The paper says: once the latent's size $K$
# exceeds the dimension of the data, about 30 for CIFAR-10, the VAE behaves in another way. The dimension rises, falls
# and rises again on its way through the layers, and training has two phases, a fast fit and a slow forgetting of what
# is not worth generating.
#
# This page draws those curves and puts the paper's claims to the test, against the numbers that the authors published.
# Two of them say something else than the text, and then the numbers decide: the encoder's hump is there for *every*
# $K$, and the decoder's grows gradually. Every figure says with what budget and on which data it was made. Below the
# paper's 200 epochs nothing is decided but claim 1.1, which needs no training.

# %% tags=["parameters"]
scale: str = "quick"  # quick, short, paper or published: where all that is not given comes from
latent_dims: list = None  # sizes K of the latent, whole and at least 1, e.g. [2, 32, 128]
epochs: list = None  # checkpoints to show, of 0, 1, 2, 5, 10, 20, 50, 75, 100, 150, 200; the last ends the training
seeds: list = None  # seed numbers, whole and at least 0, e.g. [0, 1, 2]
data: list = None  # image sets, e.g. [cifar10_jpeg, mnist32]
n_train: int = None  # training images; 0 is 80 % of the set's own
precision: str = None  # full, fp64 or bf16
device: str = None  # cpu or cuda

# %%
from vaekit import claims, figures, parameters
from vaekit.studies import id_transition as study
from vaekit.studies.id_transition import claims as ours
from vaekit.studies.id_transition import explore
from vaekit.studies.id_transition import figures as plots

settings = parameters.read(study.Settings, globals())

# %% [markdown]
# ## Two measures
#
# **Intrinsic dimension (ID)**, by 2NN {cite}`facco2017estimating`: in $d$ dimensions the ratio of a point's distances
# to its first two neighbours has the distribution $1 - \mu^{-d}$, whatever the density. Its value belongs to the number
# of points: for the JPEG copy of CIFAR-10 it is 24 with 1,000 images and 31 with 10,000, so no two are compared here that
# differ in $N$.
#
# **Information Imbalance** $\Delta(A \to B)$ {cite}`glielmo2022ranking`: take each point's nearest neighbour in $A$, and
# ask how near it is in $B$. About 0: $A$ predicts $B$. About 1: $A$ says nothing of $B$.
#
# Layers: 0 is the image, 1 to 4 are the encoder's blocks, 5 is the sampled latent $z$, 6 to 9 the decoder's blocks and 10
# is the output. Distances are Euclidean, between flattened layers, with batch normalisation by its running
# statistics.

# %% [markdown]
# ## Training
#
# Stored members are taken as they are; only missing ones are trained. At the quick scale the net is a quarter as wide as the
# paper's and sees 1,024 images five times, of the first set at hand among CIFAR-10, its JPEG copy and Tetrominoes; its
# layers are measured on 500 images. That shows that all of this runs, and no more.

# %%
table = study.run(settings)
table.groupby(["data", "n_train", "n_test", "steps", "batch_size"])[["latent_dim", "seed"]].agg(
    ["nunique", "min", "max"]
)

# %% [markdown]
# ## Two humps
#
# **Claim 1.1.** The data has about 30 dimensions. **Claim 1.2.** The encoder first expands them, to 67 or more, for
# every $K$. **Claims 1.5 and 1.6.** With a large $K$ the decoder expands them again, and its output has fewer than the
# data. **Claim 1.13.** On MNIST the decoder's second hump is a plateau.

# %% mystnb={"image": {"alt": "Intrinsic dimension over the eleven layers, a curve for each size of the latent, with the data's own dimension as a dashed line, one row for each budget and data set."}, "figure": {"caption": "ID of every layer at the end of training, one row a budget and data set. Dashed: the ID of the images. Bars: standard deviation over seeds; of one seed, its error from half-subsets.", "name": "fig-id-layers"}}
plots.dimensions(table)

# %% [markdown]
# *Look at* the two sides of the dotted line at $z$: by the authors' numbers all curves rise on the left, whatever the
# $K$, and on the right only those with a large $K$. After a few epochs neither is there yet: the curves mostly fall on
# the left, and on the right no hump stands out from $z$. The numbers, with the number $N$ of images that each rests on:

# %% tags=["full-width"]
figures.text_table(plots.numbers(table))

# %% [markdown]
# ## A step or a slope?
#
# **Claim 1.4.** The decoder's hump stands out more and more with $K$, without a step where $K$ passes the data's
# dimension. **Claim 1.3.** The ID of $z$ grows with $K$, and more slowly.

# %% mystnb={"image": {"alt": "Left: prominence of the decoder's hump over K with the data's dimension as a dashed line. Right: dimension of the sampled latent, of its mean and of draws from the prior over K on logarithmic axes."}, "figure": {"caption": "Left: the highest ID of the decoder's layers over the higher one of latent and output; 1 is no hump. Right: the ID of the latent beside that of as many draws from the prior, the null model.", "name": "fig-id-latent"}}
plots.over_dims(table)

# %% [markdown]
# *Look at* the orange line on the right. It knows nothing of any image: it is what 2NN finds in Gaussian noise of $K$
# dimensions, below $K$ because a finite cloud has a boundary. Where the blue line lies on it, the ID of $z$ says little of
# the data. The green line is the same for the latent without its noise.

# %% [markdown]
# ## Two phases
#
# **Claim 1.7.** The ID of the encoder goes on growing long after the first fit, to the last of 200 epochs. **Claim 1.8.**
# The KL peaks near epoch 10 and then falls. **Claims 1.9 and 1.10.** The output first learns to predict the image and
# then forgets some of it, but hardly where $K$ is 2. **Claim 1.11.** How much is left.

# %% mystnb={"image": {"alt": "Intrinsic dimension over the eleven layers of one network, a curve for each epoch that was measured."}, "figure": {"caption": "ID of every layer while training, for K 64 or the largest there is.", "name": "fig-id-epochs"}}
plots.phases(table)

# %% mystnb={"image": {"alt": "Two panels over epochs, a curve for each K: the KL on the training images, and the Information Imbalance from the output to the image on a logarithmic axis."}, "figure": {"caption": "Left: KL of the latent on the training images, in nats per image. Right: Information Imbalance from the output to the image, on the test images. The axis of epochs is logarithmic from 1 on.", "name": "fig-id-training"}}
plots.over_epochs(table)

# %% [markdown]
# *Look at* the right panel for a valley: where a curve turns up again, the images that are nearest in the output are no
# longer so near in truth. The authors' loop seems to repeat its noise at every epoch; ours draws fresh noise at every
# step, so a second phase here cannot come from the fitting of repeated noise.

# %% [markdown]
# ## Who predicts whom
#
# **Claim 1.12.** Where a layer predicts the next one better than the next predicts it, something is lost on the way:
# the difference of the two imbalances is below 0. The paper has the encoder below 0, and the decoder above 0 where $K$
# is large.

# %% mystnb={"image": {"alt": "Relative difference of the two Information Imbalances of adjacent layers over the layers, a curve for each K, with a line at zero."}, "figure": {"caption": "Difference of the two Information Imbalances of adjacent layers, over their mean. Below 0: compression.", "name": "fig-ii-differences"}}
plots.differences(table)

# %% mystnb={"image": {"alt": "Scatter plots on logarithmic axes of the Information Imbalance from layer A to B against that from B to A, for adjacent layers and for image and output, with the diagonal, a panel for three sizes of the latent."}, "figure": {"caption": "The information plane: adjacent layers, and image against output (star). A is the layer nearer the image.", "name": "fig-ii-plane"}}
plots.plane(table)

# %% mystnb={"image": {"alt": "Heat maps of the Information Imbalance between all pairs of eleven layers, a panel for three sizes of the latent, dark where a layer predicts the other."}, "figure": {"caption": "Information Imbalance of all pairs of layers at the end of training. Dark: the layer of the row predicts the layer of the column.", "name": "fig-ii-matrix"}}
plots.matrix(table)

# %% [markdown]
# *Look at* the corner at the lower left of each matrix, the output predicting the image, and at the corner opposite. With
# a small $K$ the decoder's half is dark in itself: it passes on the little that $z$ holds.

# %% [markdown]
# ## Verdicts
#
# Computed from the table that the figures are drawn from. *Outcome* and *scope* are two things: what was found, and
# on what it was measured. {doc}`scorecard` has the rules. The original CIFAR-10 is not the same as a copy that went
# through JPEG: the copy decides where a claim is of the network, and not where it is of the data.

# %% tags=["full-width"]
figures.text_table(claims.verdict_table(ours.CLAIMS, table))

# %% [markdown]
# ## Do it again
#
# The command that trains one more size of the latent at the quick scale, and draws it beside what is stored:
#
# ```bash
# .venv/bin/papermill notebooks/id_transition.ipynb out.ipynb -p latent_dims "[16]"
# ```
#
# The command that would settle the claims at the paper's scale, on a GPU, and the one that shows them here; without the
# original CIFAR-10, `-p data "[cifar10_jpeg, mnist32]"` takes the copy:
#
# ```bash
# .venv/bin/python -m vaekit train id_transition --scale paper -p device cuda
# .venv/bin/python -m vaekit export id_transition
# ```

# %% [markdown]
# ## Layer by layer
#
# Choose a network by its $K$ and the epoch, and move through its layers: the curve of its dimensions, its other epochs
# in grey, and what each layer's neighbours say of it.

# %%
explore.explore(table, settings)
