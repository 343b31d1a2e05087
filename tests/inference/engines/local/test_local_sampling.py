"""From logits to tokens: what may be drawn, how often, and that nobody's chance depends on others."""

from __future__ import annotations

import math

import pytest
import torch

from inference.engines.local.sampling import NO_NUMBERS, choices_of, sample, uniform
from inference.engines.local.sequence import Sampling, Sequence

CPU = torch.device("cpu")
LOGITS = torch.log(torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2]))


def rows(sampling: Sampling, count: int) -> list[Sequence]:
    """One sequence at each of ``count`` places."""
    return [Sequence("x", [0], 5, sampling, in_flight=place) for place in range(count)]


def drawn(sampling: Sampling, count: int = 20_000, logits: torch.Tensor = LOGITS) -> torch.Tensor:
    """How often each token comes."""
    ids = sample(logits.expand(count, -1), choices_of(rows(sampling, count), CPU))
    return ids.bincount(minlength=logits.shape[-1]) / count


def test_tokens_come_as_often_as_they_are_likely():
    assert torch.allclose(drawn(Sampling(1.0, seed=3)), LOGITS.exp(), atol=0.015)


def test_temperature_sharpens():
    wanted = (LOGITS / 0.5).softmax(-1)

    assert torch.allclose(drawn(Sampling(0.5, seed=3)), wanted, atol=0.015)


def test_top_k_leaves_the_k_likeliest():
    assert torch.allclose(drawn(Sampling(1.0, top_k=2, seed=3)), torch.tensor([0, 0.615, 0, 0.385, 0]), atol=0.015)


def test_top_p_leaves_the_fewest_that_reach_it():
    assert torch.allclose(drawn(Sampling(1.0, top_p=0.6, seed=3)), torch.tensor([0, 0.615, 0, 0.385, 0]), atol=0.015)


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(1.0, top_k=1), Sampling(1.0, top_p=1e-9), Sampling(1e-9)])
def test_the_narrowest_choices_are_greedy(sampling):
    assert drawn(sampling, 50)[1] == 1


def test_a_large_vocabulary_is_cut_to_its_likeliest():
    logits = torch.arange(1000.0) / 1000

    assert drawn(Sampling(10.0, seed=1), 5000, logits)[: 1000 - 256].sum() == 0


def test_all_greedy_rows_need_no_chance():
    assert choices_of(rows(Sampling(0.0), 3), CPU) is None


def test_a_row_depends_on_nothing_but_itself():
    mine = Sequence("x", [0] * 9, 5, Sampling(1.0, seed=5))
    alone = sample(LOGITS[None], choices_of([mine], CPU))
    others = rows(Sampling(0.7, 0.9, 3, 8), 6)

    together = sample(torch.cat([torch.randn(6, 5), LOGITS[None]]), choices_of([*others, mine], CPU))

    assert together[-1] == alone[0]


def test_a_token_still_on_the_device_counts_as_a_place():
    late = Sequence("x", [0] * 8, 5, Sampling(1.0, seed=5), in_flight=1)
    known = Sequence("x", [0] * 9, 5, Sampling(1.0, seed=5))

    assert choices_of([late], CPU).place == choices_of([known], CPU).place


def test_seeds_and_places_give_independent_chances():
    seeds, places = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    chances = uniform(seeds.flatten(), places.flatten()).view(200, 200)

    assert 0 <= chances.min() < 0.001
    assert 0.999 < chances.max() < 1
    assert abs(chances.mean() - 0.5) < 0.005
    assert abs(chances.var() - 1 / 12) < 0.005
    for shifted in (chances.roll(1, 0), chances.roll(1, 1), chances.T):
        correlation = torch.corrcoef(torch.stack([chances.flatten(), shifted.flatten()]))[0, 1]
        assert abs(correlation) < 0.03


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**62 + 12345])
def test_any_seed_works(seed):
    assert drawn(Sampling(1.0, seed=seed), 200).count_nonzero() == 5


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_numbers_says_so_and_leaves_the_others_alone(broken, temperature):
    logits = torch.stack([LOGITS, LOGITS, LOGITS])
    logits[1, 3] = broken

    ids = sample(logits, choices_of(rows(Sampling(temperature, top_k=1), 3), CPU))

    assert ids.tolist() == [1, NO_NUMBERS, 1]
