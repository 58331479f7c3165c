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
# # The claims
#
# Every claim of the four papers, a line each; what was found and on what it rests unfolds. No verdict is typed: each is
# computed from `results/`, by a function that the tests hold to made-up tables which satisfy it, violate it and leave it
# undecided.

# %% tags=["hide-input", "full-width"]
from vaekit import pages
from vaekit.studies import ledger

verdicts = ledger.verdicts()
pages.scorecard(verdicts, ledger.titles())

# %% [markdown]
# ## How a claim is decided
#
# *Outcome* and *scope* are two things and never merged.
#
# reproduced
# : the 95 % interval over at least three seeds lies where the paper says, after 0.8 and after all of the steps. A
#   published number is met within the tolerance that is named, for which one seed is enough.
#
# refused
# : it lies elsewhere, or a published number is missed (*not reproduced* in the tables). With fewer steps than the paper's,
#   an effect can be reproduced but not refuted, for it may still come; an absence can be refuted but not reproduced, for
#   it may still go.
#
# undecided
# : with the reason: too few seeds, too small a budget, an interval that holds both, rates too small to tell, or a data
#   set that is missing where others of the same claim were judged.
#
# needs data, not run
# : the evidence that the claim asks for is not there; where a part of the claim has a value, that is shown with its scope.
#
# A claim about several data sets must hold on each. A claim about the best of many members is decided by seeds that did
# not choose them. A claim with one seed over a whole grid has its interval from a bootstrap over the grid, and says so; one
# that counts exceptions over a grid, or parameters, has none.
# A claim that is true by construction is shown, and not counted.
