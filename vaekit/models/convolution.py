"""Convolutions as torch has them, laid out for a CPU: the same parameters and the same values to rounding.

Two things cost a training its time there. oneDNN's kernels want the channels last in memory, and copy what comes in
another layout. And its transposed convolution to one or three channels, the last layer of every decoder here, does a
fifth to a thirtieth of the operations a second of the others in its forward pass (`benchmarks/NOTES.md`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

THIN = 4  # channels up to which a transposed convolution is taken as a convolution to sub-pixels
# Kernel, stride, padding, padding of the output, dilation and groups of the layers whose place `sub_pixels` can take.
_DOUBLING = ((4, 4), (2, 2), (1, 1), (0, 0), (1, 1), 1)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that works with the channels last in memory: after it, `flatten` or `reshape`, not `view`."""

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, in_channels, H, W) to (batch, out_channels, H', W')."""
        return super().forward(channels_last(x))


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` that works with the channels last in memory, and to few channels by `sub_pixels`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """From (batch, in_channels, H, W) to (batch, out_channels, H', W')."""
        form = (self.kernel_size, self.stride, self.padding, self.output_padding, self.dilation, self.groups)
        if form == _DOUBLING and self.out_channels <= THIN and output_size is None and x.device.type == "cpu":
            return sub_pixels(x, self.weight, self.bias)
        return super().forward(channels_last(x), output_size)


def channels_last(x: Tensor) -> Tensor:
    """x, (batch, C, H, W), with its channels last in memory; as it is on a GPU, and without a batch.

    Written with `permute`, since vmap has no rule for `contiguous(memory_format=torch.channels_last)`; and a copy also
    where C is 1, for then the strides alone tell oneDNN which layout is meant.
    """
    if x.device.type != "cpu" or x.dim() != 4 or x.stride(1) == 1:
        return x
    return x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


def sub_pixels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.conv_transpose2d(x, weight, bias, stride=2, padding=1)` with a 4 x 4 kernel, as an ordinary convolution.

    A pixel of the output sees two rows and two columns of x. Rows 2p - 1 and 2p see the same two, p - 1 and p: so a
    2 x 2 convolution with four times the channels gives all of them, and `pixel_shuffle` puts them in place.

    Shape:
        x (batch, C, H, W), weight (C, channels, 4, 4) as `nn.ConvTranspose2d` has it, bias (channels,) or None; the
        result is (batch, channels, 2 H, 2 W).

    References:
        Shi et al. 2016, arXiv 1609.05158.
    """
    # Tap k takes row i of x to row 2i - 1 + k of the output: rows 2p - 1 and 2p get taps 2 and 3 of row p - 1, and taps
    # 0 and 1 of row p. The axes of taps: C, channels, row of x, row of the output, column of x, column of the output.
    taps = weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)
    kernel = taps.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
    biases = None if bias is None else bias.repeat_interleave(4)
    return F.pixel_shuffle(F.conv2d(x, kernel, biases, padding=1), 2)[..., 1:-1, 1:-1].contiguous()
