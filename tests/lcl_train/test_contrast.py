import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lcl_train.contrast import Bias, Contrasted, ContrastSettings, Pairs, begin, contrast

KINDS = ["softmax", "sigmoid"]


def pairs(count, seed=0, pictures=1000, texts=1000, invalid=()):
    rng = torch.Generator().manual_seed(seed)
    valid = torch.ones(count, dtype=torch.bool)
    valid[list(invalid)] = False
    return Pairs(
        torch.randn(count, 8, generator=rng, requires_grad=True),
        torch.randn(count, 8, generator=rng, requires_grad=True),
        torch.randint(pictures, (count,), generator=rng),
        torch.randint(texts, (count,), generator=rng),
        valid,
    )


def by_hand(given, kind, scale, bias):
    """The loss as the papers write it, a number at a time."""
    unit = [
        [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in features.tolist()]
        for features in (given.latents, given.contexts)
    ]
    chosen = [i for i, valid in enumerate(given.valid.tolist()) if valid]
    keys, texts = given.keys.tolist(), given.context_ids.tolist()
    loss = 0.0
    for i in chosen:
        rivals = [j for j in chosen if i == j or (keys[i] != keys[j] and texts[i] != texts[j])]
        there = {j: scale * sum(a * b for a, b in zip(unit[0][i], unit[1][j], strict=True)) for j in rivals}
        back = {j: scale * sum(a * b for a, b in zip(unit[1][i], unit[0][j], strict=True)) for j in rivals}
        if kind == "softmax":
            for logits in (there, back):
                loss += (math.log(sum(map(math.exp, logits.values()))) - logits[i]) / 2
        else:
            signs = {j: 1 if i == j else -1 for j in rivals}
            loss += sum(math.log1p(math.exp(-signs[j] * (there[j] + bias))) for j in rivals)
    return loss


@hypothesis_settings(max_examples=25)
@given(st.integers(1, 9), st.integers(0, 99), st.sampled_from([2, 1000]), st.sampled_from([2, 1000]))
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_one_of_the_paper(kind, count, seed, pictures, texts):
    drawn = pairs(count, seed, pictures, texts, invalid=range(count // 3))
    measured = contrast(drawn, ContrastSettings(kind=kind), torch.tensor([1.5]), torch.tensor([-1.0]))
    assert measured.loss.item() == pytest.approx(by_hand(drawn, kind, math.exp(1.5), -1.0), rel=1e-5)
    assert measured.n == count - count // 3
    assert len(measured.losses) == count and not measured.losses[: count // 3].any()
    torch.testing.assert_close(measured.losses.sum(), measured.loss)


def gradients(drawn, **changes):
    """The contrast as it begins, and the gradients of features, scale and bias."""
    settings, scale, bias = ContrastSettings(**changes), torch.zeros(1), Bias().value
    begin(settings, scale)
    learnt = [drawn.latents, drawn.contexts, scale.requires_grad_(), bias]
    measured = contrast(drawn, settings, scale, bias)
    return measured, torch.autograd.grad(measured.loss, learnt, materialize_grads=True)


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_change_neither_loss_nor_gradient(kind):
    drawn = pairs(23, pictures=20, texts=20, invalid=[4])
    whole, expected = gradients(drawn, kind=kind)
    tiled, got = gradients(drawn, kind=kind, tile=5 * 23)
    torch.testing.assert_close(tiled, whole)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_nobodys_negative_and_learns_nothing(kind):
    drawn = pairs(6)
    filled = Pairs(
        *(torch.cat([x, x[:3].detach()]) for x in (drawn.latents, drawn.contexts, drawn.keys + 9)),
        torch.arange(9),
        torch.arange(9) < 6,
    )
    alone, expected = gradients(drawn, kind=kind)
    among, got = gradients(filled, kind=kind)
    torch.testing.assert_close(among.loss, alone.loss)
    torch.testing.assert_close([g[:6] for g in got[:2]], list(expected[:2]))
    assert not got[0][6:].any() and not got[1][6:].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drawn", [pairs(0), pairs(3, invalid=[0, 1, 2])], ids=["empty", "invalid"])
def test_without_pairs_the_loss_is_zero_and_reaches_every_input(kind, drawn):
    measured, got = gradients(drawn, kind=kind)
    assert measured[:-1] == tuple([0.0] * (len(Contrasted._fields) - 1)) and not measured.losses.any()
    assert all(torch.isfinite(g).all() and not g.any() for g in got)


def test_copies_are_negatives_only_if_asked():
    drawn = pairs(4, pictures=1)
    masked = contrast(drawn, ContrastSettings(), torch.zeros(1))
    assert masked.loss.item() == masked.log_candidates.item() == 0
    assert masked.images_found == masked.contexts_found == 4
    open_to_all = contrast(drawn, ContrastSettings(mask_copies=False), torch.zeros(1))
    assert open_to_all.loss > 1
    assert open_to_all.log_candidates.item() == pytest.approx(4 * math.log(4))


def test_what_scores_highest_is_counted_each_way():
    latents = torch.eye(3, 8)
    contexts = torch.stack([latents[0], latents[1], latents[1] + 0.1 * latents[2]])
    drawn = Pairs(latents, contexts, torch.arange(3), torch.arange(3), torch.ones(3, dtype=torch.bool))
    measured = contrast(drawn, ContrastSettings(), torch.zeros(1))
    assert measured.images_found == 2  # the third context takes the second image
    assert measured.contexts_found == 3


def test_half_precision_outside_leaves_the_logits_whole():
    drawn, scale = pairs(8), torch.tensor([4.0])
    with torch.autocast("cpu", torch.bfloat16):
        inside = contrast(drawn, ContrastSettings(), scale)
    assert inside.loss.dtype == torch.float32
    assert inside.loss == contrast(drawn, ContrastSettings(), scale).loss


@pytest.mark.parametrize(("kind", "scale"), [("softmax", 1 / 0.07), ("sigmoid", 10)])
def test_the_temperature_begins_as_published(kind, scale):
    value = torch.zeros(1)
    begin(ContrastSettings(kind=kind), value)
    assert value.exp().item() == pytest.approx(scale)
