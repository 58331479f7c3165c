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
# # Your own model
#
# An ordinary `nn.Module`, a fleet of it over three weights of the rate and two seeds, and its
# rate–distortion curve. Unlike the other pages, this one trains while the book is built: what you see was computed by the
# very code that stands here, on a CPU.
#
# A model returns the parameters of its distributions. Noise comes in, under names that `noise_sites` declares, so that
# a member's draws are its own whoever trains beside it.

# %%
import torch
from torch import nn

import vaekit
from vaekit.distributions import Bernoulli, Gaussian


# %%
class MyVAE(nn.Module):
    noise_sites = {"z": (8,)}

    def __init__(self):
        super().__init__()
        into, out = nn.Linear(3072, 96), nn.Linear(96, 3072)
        latent, image = nn.Linear(96, 16), nn.Unflatten(1, (3, 32, 32))
        self.encoder = nn.Sequential(nn.Flatten(), into, nn.ReLU(), latent)
        self.decoder = nn.Sequential(nn.Linear(8, 96), nn.ReLU(), out, image)

    def forward(self, x, noise):
        z = Gaussian(*self.encoder(x).chunk(2, dim=1))
        return {"z": z, "x": Bernoulli(self.decoder(z.sample(noise["z"])))}


# %% [markdown]
# (With convolutions, take `vaekit.models.Conv2d` and `ConvTranspose2d`: torch's layers with the same parameters, laid out
# so that a CPU is faster at them. After them, `flatten`, not `view`.)
#
# An objective says what is minimised. `vaekit.losses.beta_objective` is $D + \beta R$ in nats per image; your own is a
# function of the same form. A fleet trains all members at once, a member a core here, a stack of them on a GPU; each
# comes out as if it had been alone.

# %%
tetrominoes = vaekit.data.load("tetrominoes")
split = tetrominoes.split("cv", n_train=4096)
train = tetrominoes.take(split.train)
test = tetrominoes.take(split.test[:1024])

fleet = vaekit.train_fleet(
    MyVAE,
    vaekit.losses.beta_objective,
    members=vaekit.grid(beta=[0.1, 1, 4], seed=[0, 1]),
    images=train,
    budget=vaekit.Budget(steps=1000, batch_size=64, snapshots=(500,)),
)
[(each.member.seed, each.member.weights, each.status) for each in fleet]

# %%
from vaekit import figures

rows = vaekit.metrics.rd_table(fleet, train, "train")
rows += vaekit.metrics.rd_table(fleet, test, "test")

# %% mystnb={"image": {"alt": "Distortion over rate of the model above, for training and test images, a point for each of three betas."}, "figure": {"caption": "The model above: 1,000 steps of 64, two seeds, trained while this page was built. Star: beta = 1.", "name": "fig-first-fleet"}}
figures.rate_distortion(rows)

# %% [markdown]
# Any member is an ordinary module again. Here are eight test images and what the first member of each weight makes of
# them, at the mean of its latent.

# %%
x = test[:8] / 255
mean = {"z": torch.zeros(8, 8)}
reconstructions = [fleet.model(i)(x, mean)["x"].mean for i in (0, 1, 2)]
sheet = torch.cat([x, *reconstructions]).detach()
sheet = (sheet * 255).round().to(torch.uint8)

# %% mystnb={"image": {"alt": "Four rows of eight images: the originals, and their reconstructions by members of rising beta."}, "figure": {"caption": "Test images (top) and their reconstructions at beta = 0.1, 1 and 4.", "name": "fig-first-fleet-reconstructions"}}
figures.pictures(sheet, columns=8)

# %% [markdown]
# And here is its decoder, in your browser: a slider for each of the eight dimensions of the latent. In JupyterLab leave
# `.static()` out, which is for a page without a kernel.

# %%
from vaekit import widgets

caption = "The model above at beta = 1, seed 0: 1,000 steps of 64."
widgets.decoder(fleet.model(1), caption).static()

# %% [markdown]
# `fleet.model(i)` and `fleet[i].history` are all there is to it; nothing was written to a disk. Keep what you like with
# `torch.save` or safetensors. The store that finds a member again serves the studies of this book.
