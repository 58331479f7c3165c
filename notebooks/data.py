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
# # The data
#
# Nothing needs a download: the pages use image sets that are made on the spot, in seconds, and results on the others
# that were computed before. Every set goes by its name:

# %%
import pandas as pd

from vaekit import data, figures

figures.text_table(pd.DataFrame(data.catalogue()))

# %% [markdown]
# MNIST {cite}`lecun1998gradient`, Fashion-MNIST {cite}`xiao2017fashion`, CIFAR-10 {cite}`krizhevsky2009learning` and SVHN
# {cite}`netzer2011reading` are fetched by `.venv/bin/python -m vaekit data NAME`: a download that is checked against a known
# hash, converted once, and read from then on without the network. A file that is damaged is refused, with its hash and
# the next step. SmallNORB {cite}`lecun2004learning` and 3D Shapes {cite}`burgess2018shapes` come in the same way, their
# images averaged to 32 × 32; the second needs `pip install h5py`. An original that lies in the data folder under its own
# name is not downloaded. `cifar10_jpeg` is a JPEG copy of CIFAR-10 that is used where somebody has prepared it; it goes
# by its own name, so that nothing made from it is taken for a result on the original. `mnist_binary` and `mnist32` are
# made from `mnist` when they are loaded: binarised once at 0.5 for the hierarchical VAEs, and resized to 32 × 32, bit
# for bit as Pillow does it, for the study of intrinsic dimension.
#
# ## The JPEG copy of CIFAR-10
#
# `cifar10_jpeg` has CIFAR-10's 50,000 + 10,000 images and labels, each image encoded once as JPEG (quality 75, chroma
# 4:2:0) and decoded by Pillow, in an order that interleaves the classes. It is a file `cifar10_jpeg.npz` in the data folder
# with the uint8 arrays `train_images` (50000, 32, 32, 3), `train_labels`, `test_images`, `test_labels`. From the original
# arrays, in whatever order, `Image.fromarray(image).save(file, "jpeg", quality=75, subsampling="4:2:0")` makes such a copy;
# results on it have the identity of its own contents. That of the copy behind the results of this book, beside those of
# the other sets there:

# %% tags=["hide-input"]
from vaekit import studies
from vaekit.store import results

members = [row for name in studies.NAMES for row in results.read(results.folder(name)).members.values()]
sets = pd.DataFrame([{name: row[name] for name in ("data", "data_identity")} for row in members])
figures.text_table(sets.drop_duplicates().sort_values("data"))

# %% [markdown]
# ## Tetrominoes
#
# **Tetrominoes** are made to the recipe of {cite}`bozkurt2021rate`. Each of the 163,840 images holds one J-shaped piece of four squares on black. Its five
# factors are drawn one in each cell of a grid:
#
# | factor | range | unit | strata |
# |---|---|---|---|
# | angle | 0 to 337.5 | degrees | 16 |
# | hue | 0 to 0.875 | turns of the colour circle | 8 |
# | scale | 2 to 5 | pixels, the side of one of the four squares | 5 |
# | x, y | 8 to 23 | pixels, the middle of the piece | 16 each |
#
# The paper lets the angle go to 360 degrees; `tetrominoes.image_set(angle_range=360)` in `vaekit.data` is that set,
# under another identity. A pixel's value is its exact covered area. 0.12 % of the images are cut by the frame, by half
# a pixel at the most.

# %%
from vaekit.studies.rate_generalisation import explore

tetrominoes = data.load("tetrominoes")
tetrominoes.identity, tetrominoes.size, tetrominoes.image_shape, tetrominoes.factor_names

# %% mystnb={"image": {"alt": "A sheet of 96 small colour images, each a J-shaped tetromino of another place, size, angle and hue on black."}, "figure": {"caption": "Tetrominoes, drawn at random.", "name": "fig-data-tetrominoes"}}
explore.figure_1()

# %% mystnb={"image": {"alt": "Five rows of images; in each row one factor grows from left to right: angle, hue, scale, x and y."}, "figure": {"caption": "The five factors, each over its range, the others held: angle, hue, scale, x, y.", "name": "fig-data-factors"}}
explore.factors()

# %% [markdown]
# ### Splits
#
# How hard it is to generalise depends on which images train.

# %%
data.SPLITS

# %% mystnb={"image": {"alt": "Four scatter plots of training and test images over two factors: mixed, in checkerboard blocks, in a smaller box, and few training images spread over all."}, "figure": {"caption": "The four splits of Tetrominoes over two of the five factors, for images near the middle of the other three. Above each: training and test images.", "name": "fig-data-splits"}}
explore.figure_2()

# %% [markdown]
# ## dSprites-like images
#
# `dsprites_like` has the factors of dSprites {cite}`matthey2017dsprites` in the same order: 3 shapes × 6 scales × 40
# orientations × 32 × 32 places, 737,280 binary images of 64 × 64 pixels. It is close to dSprites and not bit-equal to
# it. All of it would fill 3 GB, so an image is drawn from its index when it is asked for. `dsprites_like32` has the
# same images at 32 × 32, each pixel the mean of 2 × 2, rounded to a whole number, halves up.
#
# A pixel is white where its centre lies in the sprite. The forty orientations include both 0 and 2π, whose images are
# equal; `data.dsprites.image_set(orientations=39)` leaves one of them out, under another identity.

# %%
sprites = data.load("dsprites_like")
sprites.identity, sprites.size, sprites.image_shape, sprites.factor_names

# %% mystnb={"image": {"alt": "A sheet of 96 small binary images, each a white square, ellipse or heart on black, of another size, orientation and place."}, "figure": {"caption": "dSprites-like images, drawn at random.", "name": "fig-data-sprites"}}
figures.pictures(sprites.take(sprites.split("cv", 96).train), columns=16)

# %% mystnb={"image": {"alt": "Six rows of white sprites on black: a square, an ellipse and a heart, each turning counter-clockwise; then a heart that grows, one that moves right and one that moves down."}, "figure": {"caption": "The factors, each over its range: orientation for each of the shapes, then scale, x and y.", "name": "fig-data-sprites-factors"}}
import torch

walk = torch.linspace(0, 1, 12)
turns = [data.dsprites.index(shape=shape, orientation=(39 * walk).round().long()) for shape in range(3)]
places = [data.dsprites.index(**{axis: (31 * walk).round().long()}) for axis in ("x", "y")]
rows = [*turns, data.dsprites.index(scale=(5 * walk).round().long()), *places]
figures.pictures(sprites.take(torch.cat(rows)), columns=12)

# %% [markdown]
# A square looks the same after a quarter of a turn, and an ellipse after half of one: so an image does not tell its
# orientation, and a score of disentanglement that asks for it is ill-posed. `data.dsprites.orientation_class` gives what
# the image does tell, the orientation modulo the symmetry of its shape, in steps of 2π/39. Images of one class differ by
# less than a step:

# %% mystnb={"image": {"alt": "A row of white sprites on black: five nearly equal squares, three nearly equal ellipses and two equal hearts."}, "figure": {"caption": "The orientations of class 0: five of the square, three of the ellipse, and 0 and 2π of the heart.", "name": "fig-data-sprites-symmetry"}}
everywhere = data.dsprites.index(shape=torch.arange(3)[:, None], orientation=torch.arange(40)).flatten()
classes = data.dsprites.orientation_class(sprites.factors[everywhere])
figures.pictures(sprites.take(everywhere[classes == 0]), columns=10)
