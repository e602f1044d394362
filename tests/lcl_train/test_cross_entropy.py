"""The cross-entropy in chunks is that of all logits at once, and so is its gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from lcl_train.cross_entropy import told_losses


def drawn(targets, width=6, vocabulary=11, **options):
    generator = torch.Generator().manual_seed(targets)
    hidden = torch.randn(targets, width, generator=generator).to(**options).requires_grad_()
    head = torch.randn(vocabulary, width, generator=generator).to(**options).requires_grad_()
    labels = torch.randint(-1, vocabulary, (targets,), generator=generator)
    return hidden, head, labels.where(labels >= 0, -100)


def plain(hidden, head, labels, reduction="sum"):
    logits = functional.linear(hidden, head).float()
    return functional.cross_entropy(logits, labels, reduction=reduction, ignore_index=-100)


def gradients(loss, *inputs):
    return torch.autograd.grad(loss * 0.3, inputs)


@settings(max_examples=25)
@given(targets=st.integers(0, 9), chunk=st.integers(1, 12))
def test_any_chunks_give_the_loss_and_the_gradients_of_all_logits_at_once(targets, chunk):
    hidden, head, labels = drawn(targets)
    (ours, each), theirs = told_losses(hidden, head, labels, chunk), plain(hidden, head, labels)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(each, plain(hidden, head, labels, "none").detach())
    assert not each.requires_grad
    found = gradients(ours, hidden, head)
    torch.testing.assert_close(found, gradients(theirs, hidden, head), atol=1e-6, rtol=1e-5)


def test_in_half_precision_sums_are_in_fp32():
    hidden, head, labels = drawn(64, width=64)
    with torch.autocast("cpu", torch.bfloat16):
        (ours, each), theirs = told_losses(hidden, head, labels, 16), plain(hidden, head, labels)
    assert ours.dtype == each.dtype == torch.float32
    torch.testing.assert_close(ours, theirs)
    found, expected = gradients(ours, hidden, head), gradients(theirs, hidden, head)
    exact = gradients(plain(hidden, head, labels), hidden, head)
    for one, other, true in zip(found, expected, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - true).norm() <= (other - true).norm() * 1.1 + 1e-6


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_does_not_train_gets_no_gradient_and_costs_none(frozen):
    inputs = drawn(8)
    inputs[frozen].requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        told_losses(*inputs, chunk=3)[0].backward()
    assert inputs[frozen].grad is None and inputs[1 - frozen].grad is not None
    assert counter.get_total_flops() == 2 * (2 * 8 * 6 * 11)


def test_logits_are_computed_once():
    with FlopCounterMode(display=False) as counter:
        told_losses(*drawn(8), chunk=3)[0].backward()
    assert counter.get_total_flops() == 3 * (2 * 8 * 6 * 11)
