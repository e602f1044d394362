"""Attention inside documents equals attention over everything with a dense mask."""

import pytest
import torch

from lcl_train.attend import Segments, attend

torch.set_num_threads(2)


def dense(q, k, v, lengths):
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(document))
    seen = (document[:, None] == document[None, :]) & (place[:, None] >= place[None, :])
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


@pytest.mark.parametrize("lengths", [[7], [1, 1, 1], [5, 1, 9, 2]])
def test_equals_the_dense_mask(lengths):
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(lengths), 3, 8, requires_grad=True) for _ in range(3))
    weight = torch.randn(sum(lengths), 3, 8)
    ours, theirs = attend(q, k, v, Segments.of(lengths)), dense(q, k, v, lengths)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    ours_grad = torch.autograd.grad((ours * weight).sum(), (q, k, v))
    theirs_grad = torch.autograd.grad((theirs * weight).sum(), (q, k, v))
    torch.testing.assert_close(ours_grad, theirs_grad, atol=1e-5, rtol=1e-5)


def test_no_document_sees_another():
    q, k, v = (torch.randn(8, 1, 4) for _ in range(3))
    before = attend(q, k, v, Segments.of([3, 5]))
    v[:3] += 1
    assert torch.equal(before[3:], attend(q, k, v, Segments.of([3, 5]))[3:])


def test_bounds_are_where_documents_begin():
    assert Segments.of([3, 5]).bounds.tolist() == [0, 3, 8]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_varlen_kernel_equals_the_dense_mask():
    lengths = [5, 64, 130]
    q, k, v = (torch.randn(sum(lengths), 2, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    ours = attend(q, k, v, Segments.of(lengths).to("cuda"))
    theirs = dense(*(x.float().cpu() for x in (q, k, v)), lengths)
    torch.testing.assert_close(ours.float().cpu(), theirs, atol=3e-2, rtol=3e-2)
