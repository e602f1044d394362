"""Two ranks with unequal shares are one process: the same losses and gradients."""

import pytest
import torch

from lcl_train import parallel
from lcl_train.contrast import Bias, ContrastSettings, Pairs, begin, contrast
from tests.lcl_train import ranks

KINDS = ("softmax", "sigmoid")
SHARES = {"unequal": (5, 2), "one_empty": (0, 7), "none": (0, 0)}


def contrasted(kind, features, facts, weight):
    """Loss sums and gradients of a linear encoder over some rows of the batch."""
    settings, scale = ContrastSettings(kind=kind), torch.zeros(1)
    begin(settings, scale)
    learnt = [value.clone().requires_grad_() for value in (weight, scale, Bias().value.detach())]
    latents, contexts = features @ learnt[0], features.flip(1) @ learnt[0]
    sums = contrast(Pairs(latents, contexts, *facts.unbind(1), features[:, 0] < 1.5), settings, *learnt[1:])
    gradients = torch.autograd.grad(sums.loss, learnt, materialize_grads=True)
    return {
        f"{kind}/sums": torch.stack(sums),
        **{f"{kind}/gradient{n}": gradient for n, gradient in enumerate(gradients)},
    }


def rows():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(7, 6, generator=rng, dtype=torch.float32)
    return features, torch.randint(5, (7, 2), generator=rng), torch.randn(6, 4, generator=rng)


def on_a_rank():
    """What this rank alone finds, summed over the ranks."""
    found = {}
    for name, share in SHARES.items():
        features, facts, weight = rows()
        first = sum(share[: parallel.rank()])
        own = slice(first, first + share[parallel.rank()])
        for kind in KINDS:
            here = contrasted(kind, features[own], facts[own], weight)
            found |= {f"{name}/{key}": parallel.all_sum(value) for key, value in here.items()}
    found["numbers"] = torch.tensor([parallel.largest(3 - parallel.rank()), *parallel.total([1, 2])])
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    here, there = ranks.run(on_a_rank, tmp_path_factory.mktemp("ranks"))
    assert all(torch.equal(here[name], there[name]) for name in here)
    return here


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", SHARES)
def test_the_contrast_of_unequal_ranks_is_the_contrast_of_one_process(found, kind, share):
    features, facts, weight = rows()
    count = sum(SHARES[share])
    expected = contrasted(kind, features[:count], facts[:count], weight)
    for name, value in expected.items():
        torch.testing.assert_close(found[f"{share}/{name}"], value, rtol=1e-6, atol=1e-6)


def test_ranks_agree_on_host_numbers(found):
    assert found["numbers"].tolist() == [3, 2, 4]
