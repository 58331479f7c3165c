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
# The claims that can be put to the test so far, four of the sixteen of *Rate and generalisation*, each paper's value
# beside ours. No verdict is typed: each is computed from `results/`, by a function that the tests hold to made-up
# tables which satisfy it, violate it and leave it undecided.
#
# *Outcome* and *scope* are two columns and never merged.
#
# reproduced
# : the 95 % interval over at least three seeds lies where the paper says, after 0.8 and after all of the steps.
#
# not reproduced
# : it lies elsewhere. With fewer steps than the paper's, an effect can be reproduced but not refuted, for it may still
#   come; an absence can be refuted but not reproduced, for it may still go.
#
# undecided
# : with the reason: too few seeds, too small a budget, an interval that holds both, rates too small to tell.
#
# needs data, not run
# : nothing here speaks to it yet.

# %% [markdown]
# ## How many

# %%
from vaekit import claims, figures
from vaekit.studies import ledger

verdicts = ledger.verdicts()

# %%
figures.text_table(ledger.tally(verdicts))

# %% [markdown]
# ## One by one

# %% tags=["full-width"]
figures.text_table(claims.as_table(verdicts))
