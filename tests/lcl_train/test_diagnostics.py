from math import exp, log

import numpy as np
import pytest
import torch
from torch.nn import functional

from lcl_train.diagnostics import (
    bits_per_byte,
    effective_rank,
    feature_std,
    infonce_bound,
    rivals_ahead,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_bound_holds_where_the_mutual_information_is_known():
    """Contexts and latents share one of eight values: I = log 8, which a good critic nearly reaches."""
    values = torch.arange(64) % 8
    scores = 20.0 * (values[:, None] == values[None, :]).double()
    loss = functional.cross_entropy(scores, torch.arange(64))
    bound = infonce_bound(loss, torch.tensor(64.0).double().log()).item()
    assert log(8) - 0.01 < bound <= log(8)
    even = functional.cross_entropy(torch.zeros(64, 64), torch.arange(64))
    assert infonce_bound(even, torch.tensor(64.0).log()).item() == pytest.approx(0, abs=1e-6)


def test_effective_rank_is_the_exponential_of_the_entropy_of_the_singular_values():
    features = normal(40, 12)
    shares = np.linalg.svd(features.double().numpy(), compute_uv=False)
    shares /= shares.sum()
    assert effective_rank(features).item() == pytest.approx(exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize("directions", [1, 3, 8])
def test_effective_rank_counts_directions_of_equal_weight(directions):
    basis = torch.eye(8)[torch.arange(72) % directions]
    assert effective_rank(basis * 5).item() == pytest.approx(directions)


def test_collapsed_features_have_rank_one_and_no_spread():
    same = normal(1, 16).expand(50, 16)
    assert effective_rank(same).item() == pytest.approx(1, abs=1e-5)
    assert feature_std(same).item() == pytest.approx(0, abs=1e-6)
    assert effective_rank(torch.zeros(4, 4)).item() == 1


def test_the_spread_of_features_that_point_everywhere_is_one():
    assert feature_std(normal(4000, 64)).item() == pytest.approx(1, abs=0.01)
    assert feature_std(1000 * normal(4000, 64)).item() == pytest.approx(feature_std(normal(4000, 64)).item())


def test_rivals_agree_with_sorting_by_hand():
    contexts, latents, keys = normal(50, 8), normal(50, 8, seed=1), torch.arange(50) // 2
    cosine = functional.cosine_similarity(contexts[:, None], latents[None], dim=-1)
    for own, ahead in enumerate(rivals_ahead(contexts, latents, keys).tolist()):
        ranked = [other for other in cosine[own].argsort(descending=True).tolist() if other != own ^ 1]
        assert ranked.index(own) == ahead


def test_collapsed_latents_are_behind_all_rivals_and_perfect_ones_before_them():
    latents = normal(20, 8)
    assert not rivals_ahead(latents, latents, torch.arange(20)).any()
    assert (rivals_ahead(latents, torch.ones(20, 8), torch.arange(20)) == 19).all()


def test_bits_per_byte_count_text_alone():
    losses, nbytes = torch.tensor([log(2), 3 * log(2), 100.0]), torch.tensor([1, 3, 0])
    assert bits_per_byte(losses, nbytes).item() == pytest.approx(1.0)
