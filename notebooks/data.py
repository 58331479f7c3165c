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
# Nothing needs a download: the pages use **Tetrominoes**, which are made on the spot, in seconds, to the recipe of
# {cite}`bozkurt2021rate`. Each of the 163,840 images holds one J-shaped piece of four squares on black. Its five
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
from vaekit import data
from vaekit.studies.rate_generalisation import figures as plots

tetrominoes = data.load("tetrominoes")
tetrominoes.identity, tetrominoes.size, tetrominoes.image_shape, tetrominoes.factor_names

# %% mystnb={"image": {"alt": "A sheet of 96 small colour images, each a J-shaped tetromino of another place, size, angle and hue on black."}, "figure": {"caption": "Tetrominoes, drawn at random.", "name": "fig-data-tetrominoes"}}
plots.figure_1()

# %% mystnb={"image": {"alt": "Five rows of images; in each row one factor grows from left to right: angle, hue, scale, x and y."}, "figure": {"caption": "The five factors, each over its range, the others held: angle, hue, scale, x, y.", "name": "fig-data-factors"}}
plots.factors()

# %% [markdown]
# ## Splits
#
# How hard it is to generalise depends on which images train.

# %%
data.SPLITS

# %% mystnb={"image": {"alt": "Four scatter plots of training and test images over two factors: mixed, in checkerboard blocks, in a smaller box, and few training images spread over all."}, "figure": {"caption": "The four splits of Tetrominoes over two of the five factors, for images near the middle of the other three. Above each: training and test images.", "name": "fig-data-splits"}}
plots.figure_2()

# %% [markdown]
# ## Sets that are fetched
#
# `mnist`, `fashion_mnist` and `cifar10` come by `.venv/bin/python -m vaekit data NAME`: a download that is checked against
# a known hash, converted once, and read from then on without the network. `cifar10_jpeg` is a JPEG copy of CIFAR-10
# that is used where somebody has prepared it; it goes by its own name, so that nothing made from it is taken for a
# result on the original. A file that is damaged is refused, with its hash and the next step.
