"""The keyed randomness: published vectors, moments, independence, and that a draw depends on its key alone."""

import pytest
import torch

from vaekit import randomness as r

PURPOSES = (r.INIT, r.ORDER, r.NOISE, r.EVALUATION, r.SPLIT, r.FACTORS)
ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, words):
    answer = r.philox(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
    assert tuple(int(word) for word in answer) == words


def test_the_key_is_the_seed_and_the_counter_is_position_step_site_purpose():
    seed, step, position = 2**62 + 12345, 2**32 - 1, 2**32 - 2
    counter = [torch.tensor(v) for v in (position, step, r.site_number("z"), r.NOISE)]
    key = [torch.tensor(v) for v in (seed & ONES, seed >> 32)]
    expected = torch.stack(r.philox(tuple(counter), tuple(key)))
    assert torch.equal(r.bits(seed, r.NOISE, step, "z", torch.tensor([position]))[0], expected)
    assert len(set(PURPOSES)) == len(PURPOSES)


def test_words_are_the_same_for_one_key_and_for_many_together():
    seeds, steps, positions = torch.tensor([0, 7, 2**40]), torch.tensor([[0], [3]]), torch.arange(5)
    words = r.bits(seeds[:, None], r.INIT, steps[..., None], "a", positions)
    assert words.shape == (2, 3, 5, 4)
    for i, step in enumerate((0, 3)):
        for j, seed in enumerate((0, 7, 2**40)):
            assert torch.equal(words[i, j], r.bits(seed, r.INIT, step, "a", positions))


def test_moments_of_uniform_and_normal():
    n = 200_000
    u = r.uniform(3, r.NOISE, 1, "z", (n,), torch.float64)
    z = r.normal(3, r.NOISE, 1, "z", (n,), torch.float64)
    # five standard errors each: u^k has variance 1/(2k+1) - 1/(k+1)^2; z has central moments 1, 3, 15, 105
    for k in (1, 2, 3):
        assert abs((u**k).mean() - 1 / (k + 1)) < 5 * ((1 / (2 * k + 1) - 1 / (k + 1) ** 2) / n) ** 0.5
    for k, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**k).mean() - moment) < 5 * (variance / n) ** 0.5
    assert abs((z[:-1] * z[1:]).mean()) < 5 / n**0.5  # a pair of Box and Muller, and across pairs
    assert abs((z[:-1] ** 2 * z[1:] ** 2).mean() - 1) < 5 * (8 / n) ** 0.5


def test_draws_for_other_seeds_steps_sites_and_purposes_are_independent():
    n = 20_000
    keys = [(seed, purpose, step, site) for seed in (0, 1, 2**32) for purpose in (r.NOISE, r.EVALUATION)
            for step in (0, 1, 2**31) for site in ("z", "z2")]  # fmt: skip
    draws = torch.stack([r.normal(*key, (n,)) for key in keys])
    limit = 5.5 / n**0.5  # of 630 correlations, none should lie beyond
    for values in (draws, draws.abs() - draws.abs().mean()):
        correlations = torch.corrcoef(values) - torch.eye(len(keys))
        assert correlations.abs().max() < limit


def test_uniform_is_never_0_or_1():
    words = torch.tensor([0, ONES])
    for dtype in (torch.float32, torch.float64):
        lowest, highest = r._unit(words, dtype).tolist()
        assert 0 < lowest < 2**-23
        assert 1 - 2**-22 < highest < 1
        u = r._unit(words, dtype)
        assert r._box_muller(u).isfinite().all()  # the widest normal there is
        assert r._box_muller(u).abs().max() < 6


def test_float32_and_float64_are_one_draw():
    args = (5, r.NOISE, 9, "z", (64, 33))
    assert torch.equal(r.uniform(*args).double(), r.uniform(*args, torch.float64))
    assert torch.allclose(r.normal(*args).double(), r.normal(*args, torch.float64), rtol=0, atol=3e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (3,), (7, 5), (100, 33)])  # of sizes that fill words, and that do not
def test_a_step_drawn_in_a_block_of_sixteen_is_the_step_drawn_alone(shape, dtype):
    seeds = torch.tensor([5, 9])
    block = r.normal(seeds, r.NOISE, torch.arange(32, 48).unsqueeze(1), "z", shape, dtype)
    assert block.shape == (16, 2, *shape)
    for step in (32, 39, 47):
        for j, seed in enumerate((5, 9)):
            assert torch.equal(block[step - 32, j], r.normal(seed, r.NOISE, step, "z", shape, dtype))


@pytest.mark.parametrize("shape", [(3,), (2, 5), (8,)])
def test_a_row_of_noise_does_not_depend_on_its_company(shape):
    rows = torch.tensor([0, 17, 4, 100_000, 5])
    together = r.normal_rows(1, r.EVALUATION, 2, "z", rows, shape)
    assert together.shape == (5, *shape)
    for i, row in enumerate(rows):
        assert torch.equal(r.normal_rows(1, r.EVALUATION, 2, "z", row[None], shape)[0], together[i])
    steps = torch.tensor([7, 2])
    assert torch.equal(r.normal_rows(1, r.EVALUATION, steps, "z", rows, shape)[1], together)
    many = r.normal_rows(1, r.EVALUATION, 2, "z", torch.arange(20_000), shape).double()
    assert torch.unique(many.flatten()).numel() > 0.99 * many.numel()  # rows share no words
    assert abs(many.mean()) < 5 / many.numel() ** 0.5


def test_rows_beyond_the_counter_are_refused():
    last = 2**32 // 3  # three words a row of shape (10,)
    assert r.normal_rows(0, r.EVALUATION, 0, "z", torch.tensor([last - 1]), (10,)).isfinite().all()
    with pytest.raises(ValueError, match="fewer rows"):
        r.normal_rows(0, r.EVALUATION, 0, "z", torch.tensor([last]), (10,))


def test_permutation_is_one_and_every_place_is_equally_likely():
    orders = torch.stack([r.permutation(4, r.ORDER, epoch, 10) for epoch in range(600)])
    assert torch.equal(orders.sort(1).values, torch.arange(10).expand(600, 10))
    counts = torch.stack([(orders == image).sum(0) for image in range(10)]).double()
    chi2 = ((counts - 60) ** 2 / 60).sum()  # about 81 degrees of freedom
    assert 30 < chi2 < 160
    assert not torch.equal(r.permutation(4, r.ORDER, 0, 10), r.permutation(5, r.ORDER, 0, 10))
    assert r.permutation(4, r.ORDER, 0, 1).tolist() == [0]
    assert r.permutation(4, r.ORDER, 0, 0).tolist() == []


def test_the_global_generator_plays_no_part():
    before = torch.get_rng_state()
    first = r.normal(1, r.NOISE, 0, "z", (9,))
    torch.manual_seed(99)
    assert torch.equal(first, r.normal(1, r.NOISE, 0, "z", (9,)))
    torch.set_rng_state(before)
    r.permutation(1, r.ORDER, 0, 50)
    assert torch.equal(torch.get_rng_state(), before)
