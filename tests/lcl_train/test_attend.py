"""Every back end equals attention over everything with a dense mask, in what comes out and in gradients."""

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils.flop_counter import FlopCounterMode

from lcl_train.attend import Segments, attend
from lcl_train.attend_flex import attend_blocks, block_mask
from schemas.errors import RecipeError

torch.set_num_threads(2)
LENGTHS = [[7], [1, 1, 1], [5, 1, 9, 2]]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def mask(lengths, causal=True):
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(document))
    same = document[:, None] == document[None, :]
    return same & (place[:, None] >= place[None, :]) if causal else same


def dense(q, k, v, lengths, causal=True):
    seen = mask(lengths, causal).to(q.device)
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


def inputs(tokens, heads=3, width=8, **options):
    """Queries, keys and values as a projection gives them: views into one tensor, not contiguous."""
    torch.manual_seed(0)
    return torch.randn(tokens, 3, heads, width, **options).requires_grad_()


def results(attended, qkv):
    """What comes out, and the gradient of a random sum of it."""
    weight = torch.randn(attended.shape, generator=torch.Generator().manual_seed(1)).to(attended)
    return attended, *torch.autograd.grad((attended * weight).sum(), qkv)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])])
def test_equals_the_dense_mask(lengths, causal, device):
    qkv = inputs(sum(lengths), device=device)
    ours = attend(*qkv.unbind(1), Segments.of(lengths, causal).to(device))
    theirs = dense(*qkv.unbind(1), lengths, causal)
    torch.testing.assert_close(results(ours, qkv), results(theirs, qkv), atol=1e-5, rtol=1e-5)


def test_no_document_sees_another():
    q, k, v = (torch.randn(8, 1, 4) for _ in range(3))
    before = attend(q, k, v, Segments.of([3, 5]))
    v[:3] += 1
    assert torch.equal(before[3:], attend(q, k, v, Segments.of([3, 5]))[3:])


def test_bounds_are_where_documents_begin():
    assert Segments.of([3, 5]).bounds.tolist() == [0, 3, 8]


def test_a_longer_document_than_there_is_room_for_is_refused():
    with pytest.raises(RecipeError, match="a document of 5 tokens: there is room for 4"):
        Segments.of([3, 5], longest=4)


@pytest.mark.parametrize("causal", [True, False])
def test_the_gradient_is_that_of_finite_differences(causal):
    qkv = inputs(8, heads=2, width=4, dtype=torch.float64)
    segments = Segments.of([5, 1, 2], causal)
    assert torch.autograd.gradcheck(lambda x: attend(*x.unbind(1), segments), (qkv,), fast_mode=True)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # opcheck's
def test_the_operator_keeps_the_rules_that_compilers_rely_on():
    q, k, v = (x.detach().clone().requires_grad_() for x in inputs(17).unbind(1))
    torch.library.opcheck(
        torch.ops.lcl.attend_documents.default, (q, k, v, Segments.of([5, 12]).bounds, True)
    )


def test_flops_are_counted_as_torch_counts_its_own_attention():
    def count(run):
        with FlopCounterMode(display=False) as counter:
            run().sum().backward()
        return counter.get_total_flops()

    qkv = inputs(17)
    alone = [x.transpose(0, 1)[None] for x in inputs(12).unbind(1)]
    one = count(lambda: torch.nn.functional.scaled_dot_product_attention(*alone, is_causal=True))
    both = count(lambda: attend(*qkv.unbind(1), Segments.of([5, 12])))
    assert both == one * (5**2 + 12**2) // 12**2 > 0


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [[128], [5, 100, 300, 20, 700], [128, 256, 1, 127], [1, 1, 600, 38]])
def test_the_tiles_of_flex_are_those_that_torch_finds_by_asking_every_pair(lengths, causal):
    bounds, tokens = Segments.of(lengths).bounds, sum(lengths)
    ours = block_mask(bounds, tokens, causal)
    theirs = create_block_mask(ours.mask_mod, None, None, tokens, tokens, device="cpu")
    assert ours.shape == theirs.shape
    for name in ("kv", "full_kv", "q", "full_q"):
        assert marked(ours, name) == marked(theirs, name), name
    places = torch.arange(tokens)
    seen = ours.mask_mod(torch.tensor(0), torch.tensor(0), places[:, None], places)
    assert torch.equal(seen, mask(lengths, causal))


def marked(blocks, name):
    """The tiles in each row of a list of tiles, as sets."""
    counts, indices = getattr(blocks, f"{name}_num_blocks")[0, 0], getattr(blocks, f"{name}_indices")[0, 0]
    return [set(row[:count].tolist()) for row, count in zip(indices, counts, strict=True)]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("causal", [True, False])
def test_flex_equals_the_dense_mask(causal):
    lengths = [5, 130, 40]
    q, k, v = inputs(sum(lengths), heads=2, width=16).detach().unbind(1)
    blocks = block_mask(Segments.of(lengths).bounds, sum(lengths), causal)
    expected = dense(q, k, v, lengths, causal)
    torch.testing.assert_close(attend_blocks(q, k, v, blocks), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo's
def test_flex_is_compiled_once_for_any_documents():
    torch._dynamo.reset()
    counters.clear()
    attend_anew = torch.compile(attend_blocks, backend="eager", fullgraph=True)
    for lengths in ([100, 156], [56, 200], [6, 50, 100, 100], [256]):
        q, k, v = inputs(256, heads=2, width=16).detach().unbind(1)
        blocks = block_mask(Segments.of(lengths).bounds, 256, causal=True)
        expected = dense(q, k, v, lengths)
        torch.testing.assert_close(attend_anew(q, k, v, blocks), expected, atol=1e-5, rtol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


def test_nothing_is_planned_on_a_cpu():
    segments = Segments.of([3, 5])
    assert segments.planned("flex", is_half=True) is segments


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("attention", "dtype", "tolerance"),
    [("auto", torch.bfloat16, 3e-2), ("flex", torch.bfloat16, 3e-2), ("flex", torch.float32, 1e-4)],
)
def test_the_kernels_of_cuda_equal_the_dense_mask(attention, dtype, tolerance, causal):
    """In half precision to its rounding; Flex also in fp32, where sums are taken in another order."""
    lengths = [5, 64, 130, 1]
    qkv = inputs(sum(lengths), heads=2, width=64, device="cuda", dtype=dtype)
    segments = Segments.of(lengths, causal, longest=256).to("cuda")
    planned = segments.planned(attention, dtype == torch.bfloat16)
    assert (planned.blocks is not None) == (attention == "flex")
    ours = results(attend(*qkv.unbind(1), planned), qkv)
    exact = qkv.detach().float().requires_grad_()
    theirs = results(dense(*exact.unbind(1), lengths, causal), exact)
    torch.testing.assert_close([x.float() for x in ours], list(theirs), atol=tolerance, rtol=tolerance)
