"""Compiled and recomputed blocks change no result, and nothing is compiled anew or waited for once warm."""

import pytest
import torch
from torch._dynamo.utils import counters

from lcl_data.shards import Shards
from lcl_train.run import Run, find_objective
from lcl_train.speed import SpeedSettings, hasten
from lcl_train.task import Task
from schemas.errors import RecipeError
from tests.lcl_train import tiny

SIZES = {"vision": {"layers": 2}, "language": {"layers": 2}}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Documents of 0 to 4 pictures: no two batches have the same documents, images or targets."""
    documents = [tiny.document(number, pictures=number * 7 % 5) for number in range(96)]
    return Shards(tiny.write_shards(tmp_path_factory.mktemp("shards"), documents))


def run_of(shards, out, **changes):
    return Run(shards, out, tiny.settings(model=SIZES, min_images=0, **changes))


def batches_of(run, count):
    batches = iter(run.loader)
    found = [next(batches) for _ in range(count)]
    batches.close()
    return found


def shapes(batch):
    return len(batch.pixels), len(batch.segments.bounds), len(batch.labels), len(batch.pair_image)


def losses(run, batches):
    return [run.measure(run.advance(batch)) for batch in batches]


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo's
@pytest.mark.parametrize("checkpoint_blocks", [False, True])
def test_blocks_compile_whole_and_once(shards, tmp_path, checkpoint_blocks):
    """Shapes that vary are found out in the second step; the third and later ones compile nothing."""
    run, plain = run_of(shards, tmp_path / "a"), run_of(shards, tmp_path / "b")
    torch._dynamo.reset()
    counters.clear()
    settings = SpeedSettings(compile=True, checkpoint_blocks=checkpoint_blocks)
    hasten(run.model, settings, backend="aot_eager")
    batches = batches_of(run, 6)
    assert len({shapes(batch) for batch in batches}) == 6
    found = losses(run, batches[:2])
    warm = counters["stats"]["unique_graphs"]
    assert warm == 4  # two kinds of blocks, each for the first shapes and for any
    found += losses(run, batches[2:])
    assert counters["stats"]["unique_graphs"] == warm and not counters["graph_break"]
    for one, other in zip(found, losses(plain, batches), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_recomputed_blocks_give_the_same_gradients_from_less_memory(shards, tmp_path):
    kept, gradients = [], []
    for checkpoint_blocks in (False, True):
        run = run_of(
            shards, tmp_path / f"{checkpoint_blocks}", speed={"checkpoint_blocks": checkpoint_blocks}
        )
        (batch,) = batches_of(run, 1)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, s=sizes: s.append(x.nbytes) or x, lambda x: x
        ):
            loss = Task(run.model, find_objective(run.settings))(batch)
        loss.total.backward()
        kept.append(sum(sizes))
        gradients.append({name: p.grad for name, p in run.model.named_parameters() if p.grad is not None})
    assert kept[1] < 0.6 * kept[0]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_state_does_not_tell_how_it_is_run(shards, tmp_path):
    run = run_of(shards, tmp_path / "a", speed={"compile": True, "checkpoint_blocks": True})
    plain = run_of(shards, tmp_path / "b")
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()


def test_flex_is_refused_where_nothing_would_come_of_it(shards, tmp_path):
    with pytest.raises(RecipeError, match=r"speed\.attention=flex: runs on CUDA only; leave it at auto"):
        run_of(shards, tmp_path, speed={"attention": "flex"})


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("attention", ["auto", "flex"])
def test_no_step_waits_for_the_device_or_compiles_anew(shards, tmp_path, attention):
    run = run_of(shards, tmp_path, device="cuda", speed={"compile": True, "attention": attention})
    batches = [batch.pin_memory() for batch in batches_of(run, 6)]
    for batch in batches[:3]:
        run.advance(batch)
    warm = counters["stats"]["unique_graphs"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        values = [run.advance(batch) for batch in batches[3:]]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert counters["stats"]["unique_graphs"] == warm
    assert all(value.isfinite() for value in values[-1].values.values())
