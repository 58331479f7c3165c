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
# # Four VAE papers, run again

# %% tags=["hide-input", "full-width"]
from vaekit import pages
from vaekit.studies import PAPERS, study

shown = [pages.StudyPage(study(name), study(name).Settings.at("published")) for name in PAPERS]
verdicts = [verdict for page in shown for verdict in page.verdicts]
pages.strip(verdicts)

# %% [markdown]
# A variational autoencoder pays for what it says about an image with its rate $R$, and for what it gets wrong with its
# distortion $D$. One number sets the exchange, $D + \beta R$. Four papers varied that number, and others like it; this book
# runs again what they did and sets each claim beside what came out, with its spread, seeds and budget. A square is a
# claim. {doc}`The claims <scorecard>` says how one is decided.
#
# Every pair of points below, filled for test and hollow for training images, is one β, the mean of its networks. Pin two, and see what they make of images that they never saw:

# %% tags=["hide-input", "full-width"]
from vaekit.studies.rate_generalisation import explore

hero = next(page for page in shown if page.name == "rate_generalisation")
explore.explore(hero.longest, hero.settings)

# %% [markdown]
# ## The studies

# %% tags=["hide-input", "full-width"]
pages.cards(shown)

# %% [markdown]
# A fifth page is ours: {doc}`Across the papers <across>` takes the measures of all four on the same networks, and asks what the papers leave open.

# %% [markdown]
# ## Change something
#
# In a clone, with Python 3.11 or 3.12 and make:
#
# - `make book`: these pages, from the results that the clone carries (5 minutes, 2 GB of packages).
# - `make lab`: the same pages to work in; the playground trains a new β and shows its point (1 minute more).
# - `.venv/bin/papermill notebooks/rate_generalisation.ipynb out.ipynb -p betas "[0.25, 0.7]"`: new members beside the
#   stored ones (2 minutes on two cores).
#
# Or begin with {doc}`a model of your own <first_fleet>`, {doc}`the data <data>`, or {doc}`how it all hangs together <../all_of_vaekit>`.
