import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from lcl_data.shards import Shards
from lcl_train.footprint import footprint, kept_bytes
from lcl_train.run import Run
from schemas.members import names
from tests.lcl_train import tiny

DEEP = {"vision": {"layers": 3, "width": 48, "heads": 2}, "language": {"layers": 3}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [tiny.document(number, pictures=1 + number % 3) for number in range(48)]
    return Shards(tiny.write_shards(tmp_path_factory.mktemp("shards"), documents))


def prepared(shards, out, **changes):
    run = Run(shards, out, tiny.settings(model=DEEP, **changes))
    batches = iter(run.loader)
    batch = next(batches)
    batches.close()
    return run, batch


def really_kept(run, batch):
    """Bytes of the distinct storages that autograd holds after a real forward pass."""
    own = {parameter.data_ptr() for parameter in run.task.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=run.is_half),
        saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        loss = run.task(batch)
    assert loss.total.requires_grad  # the graph, and so all it keeps, is still there
    return sum(size for place, size in kept.items() if place not in own)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("objective", names("lcl_train.objectives"))
def test_what_a_forward_pass_keeps_is_foretold(shards, tmp_path, objective, dtype):
    run, batch = prepared(shards, tmp_path, objective=objective, dtype=dtype)
    foretold = kept_bytes(run.task, batch, run.settings, run.is_half, recompute=False)
    assert foretold == pytest.approx(really_kept(run, batch), rel=0.02)


def test_recomputed_blocks_keep_less_and_the_model_is_left_as_it_was(shards, tmp_path):
    run, batch = prepared(shards, tmp_path)
    kept, less = (
        kept_bytes(run.task, batch, run.settings, run.is_half, recompute=recompute)
        for recompute in (False, True)
    )
    assert less < kept / 3
    assert not run.model.language.checkpoint_blocks and not run.model.vision.vit.grad_checkpointing
    assert not any(block._forward_pre_hooks for block in run.model.blocks)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_bytes_of_the_optimiser_are_those_it_takes(shards, tmp_path, name):
    run, batch = prepared(shards, tmp_path, optimizer={"name": name}, ema=0.9)
    estimate = footprint(run.task, run.optimizer, batch, run.settings, run.is_half)
    run.advance(batch)
    states = run.optimizer.state.values()
    kept = [value for state in states for quantity, value in state.items() if quantity != "step"]
    assert estimate.optimizer == sum(value.nbytes for value in kept)
    assert estimate.weights == sum(parameter.nbytes for parameter in run.model.parameters())
    assert estimate.averages == sum(weight.nbytes for weight in run.average.weights.values())
    gradients = [parameter.grad for parameter in run.model.parameters() if parameter.grad is not None]
    assert estimate.gradients == sum(gradient.nbytes for gradient in gradients)
    assert estimate.total == sum(getattr(estimate, part) for part in estimate.__slots__)
    assert estimate.of_rows(2).activations == 2 * estimate.activations
