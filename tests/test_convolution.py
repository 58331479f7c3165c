"""Our convolutions against torch's: the same parameters, values and gradients, alone and in a stack."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vaekit.models.convolution import THIN, Conv2d, ConvTranspose2d, channels_last, sub_pixels

# Kernel, stride and padding as the models use them, and one that they do not.
PLACES = ((4, 2, 1), (4, 1, 0), (3, 1, 1), (3, 2, 0))
TORCH_LAYERS = {Conv2d: nn.Conv2d, ConvTranspose2d: nn.ConvTranspose2d}


def twins(kind, *arguments, **more):
    """A layer of ours and torch's own with the same parameters, in float64."""
    torch.manual_seed(3)
    ours = kind(*arguments, **more).double()
    theirs = TORCH_LAYERS[kind](*arguments, **more).double()
    theirs.load_state_dict(ours.state_dict())  # the same names and shapes
    return ours, theirs


def value_and_gradients(layer, x, direction):
    """The output of a layer, and the gradients of its product with `direction` by x and by each parameter."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad((y * direction(y)).sum(), [x, *layer.parameters()])]


def fixed(y):
    return torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)


@pytest.mark.parametrize("kind", TORCH_LAYERS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("before", "after"), [(1, 5), (3, 8), (6, 1), (6, 3), (7, 4), (4, THIN + 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_torchs(kind, place, before, after, bias):
    ours, theirs = twins(kind, before, after, *place, bias=bias)
    x = torch.randn(3, before, 6, 8, dtype=torch.float64)
    for layout in (x, x.to(memory_format=torch.channels_last), x.expand(3, before, 6, 8)[:, :, :, ::2]):
        values, expected = (value_and_gradients(layer, layout, fixed) for layer in (ours, theirs))
        for a, b in zip(values, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (ConvTranspose2d, {"groups": 2}),
        (ConvTranspose2d, {"dilation": 2}),
        (ConvTranspose2d, {"output_padding": 1}),
        (ConvTranspose2d, {"kernel_size": (4, 3)}),
        (Conv2d, {"groups": 2}),
        (Conv2d, {"dilation": 2}),
        (Conv2d, {"padding_mode": "circular"}),
        (Conv2d, {"kernel_size": 3, "padding": "same", "stride": 1}),
    ],
)
def test_other_forms_of_a_layer_are_torchs(kind, more):
    ours, theirs = twins(kind, 6, 2, **{"kernel_size": 4, "stride": 2, "padding": 1} | more)
    x = torch.randn(3, 6, 8, 6, dtype=torch.float64)
    for values, expected in zip(*(value_and_gradients(layer, x, fixed) for layer in (ours, theirs)), strict=True):
        torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", TORCH_LAYERS)
def test_inputs_that_torchs_layers_take(kind):
    ours, theirs = twins(kind, 6, 2, 4, 2, 1)
    for x in (torch.randn(6, 8, 6), torch.randn(0, 6, 8, 6), torch.randn(1, 6, 4, 2)):  # no batch, an empty one, of one
        torch.testing.assert_close(ours(x.double()), theirs(x.double()), rtol=1e-12, atol=1e-12)
    if kind is ConvTranspose2d:
        x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
        torch.testing.assert_close(ours(x, [9, 9]), theirs(x, [9, 9]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", TORCH_LAYERS)
@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (4, 3), (5, 6)])
@pytest.mark.parametrize("shared", [True, False])
def test_in_a_stack_each_member_has_torchs_values_and_gradients(kind, before, after, shared):
    pairs = [twins(kind, before, after, 4, 2, 1) for _ in range(3)]
    for i, pair in enumerate(pairs):
        for layer in pair:
            nn.init.constant_(layer.bias, i)
    template = pairs[0][0]
    params, _ = torch.func.stack_module_state([ours for ours, _ in pairs])
    x = torch.randn(*([] if shared else [3]), 2, before, 4, 6, dtype=torch.float64)
    call = torch.func.vmap(
        lambda p, x: torch.func.functional_call(template, p, (x,)), in_dims=(0, None if shared else 0)
    )
    y = call(params, x)
    (y * fixed(y[0])).sum().backward()
    for i, (_, theirs) in enumerate(pairs):
        value, _, *gradients = value_and_gradients(theirs, x if shared else x[i], fixed)
        torch.testing.assert_close(y[i], value, rtol=1e-12, atol=1e-12)
        for name, gradient in zip(dict(theirs.named_parameters()), gradients, strict=True):
            torch.testing.assert_close(params[name].grad[i], gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_moves_memory_and_no_value(channels):
    x = torch.randn(2, channels, 4, 6, requires_grad=True)
    y = channels_last(x)
    assert torch.equal(x, y)
    assert y.stride(1) == 1
    assert channels_last(y) is y
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sub_pixels_keep_the_kind_of_number(dtype):
    x, weight, bias = torch.rand(2, 5, 3, 3), torch.rand(5, 2, 4, 4), torch.rand(2)
    expected = F.conv_transpose2d(x, weight, bias, 2, 1)
    with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
        y = sub_pixels(x, weight, bias)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, rtol=0.02 if dtype is torch.bfloat16 else 1e-5, atol=1e-5)
