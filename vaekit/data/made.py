"""The image sets that are drawn from a recipe, never downloaded: the module of each, by its name."""

from vaekit.data import dsprites, tetrominoes

MADE = {"tetrominoes": tetrominoes, "dsprites_like": dsprites}
