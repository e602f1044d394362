"""Memory that a step takes, before it is taken: an estimate, from shapes alone.

The forward pass is run on tensors without contents (torch's FakeTensor), so that what autograd keeps for the
backward pass is counted and not guessed. Left out are what kernels need for a moment, and what an allocator
holds back.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.compiler import set_stance

from lcl_train.collate import Batch
from lcl_train.settings import Train
from lcl_train.speed import hasten
from lcl_train.task import Task


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes.

    Attributes:
        weights: parameters in fp32.
        gradients: of those that train.
        optimizer: its state: two numbers a parameter, one for matrices under Muon.
        averages: of the weights, if any are kept.
        activations: what the forward pass keeps for the backward pass, as the settings have it.
        logits: of one chunk of labels, and their logarithms.
        batches: in hand and ahead on a CPU; on a device of its own, the one in hand and the next.
    """

    weights: int
    gradients: int
    optimizer: int
    averages: int
    activations: int
    logits: int
    batches: int

    @property
    def total(self) -> int:
        """All that lies in memory at once at worst: as the backward pass begins."""
        return sum(getattr(self, name) for name in self.__slots__)

    def of_rows(self, times: float) -> "Footprint":
        """Of batches with so many times the rows."""
        scaled = {name: round(getattr(self, name) * times) for name in ("activations", "batches")}
        return replace(self, **scaled)


def footprint(
    task: Task, optimizer: torch.optim.Optimizer, batch: Batch, settings: Train, is_half: bool
) -> Footprint:
    """What training on batches like this one takes.

    Args:
        task: on the device it will train on.
        optimizer: of its parameters; it need not have stepped.
        batch: on the host.
        settings: of the run.
        is_half: whether activations are bfloat16.
    """
    weights = sum(p.numel() for p in task.parameters())
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    groups = optimizer.param_groups
    states = [(2 if "betas" in group else 1) * p.numel() for group in groups for p in group["params"]]
    chunk = min(len(batch.labels), getattr(task.objective, "chunk", 0))
    is_cpu = next(task.parameters()).device.type == "cpu"
    held = settings.accumulate + (2 * settings.workers if is_cpu else 1)  # of a step, and ahead of it
    vocabulary = task.model.settings.language.vocab_size
    return Footprint(
        weights=4 * weights,
        gradients=4 * trained,
        optimizer=4 * sum(states),
        averages=0 if settings.ema is None else 4 * weights,
        activations=kept_bytes(task, batch, settings, is_half, settings.speed.checkpoint_blocks),
        logits=2 * 4 * chunk * vocabulary,
        batches=held * sum(tensor.nbytes for tensor in _tensors(batch)),
    )


def kept_bytes(task: Task, batch: Batch, settings: Train, is_half: bool, recompute: bool) -> int:
    """Bytes that a forward pass keeps, parameters aside; no tensor is filled.

    Args:
        task: on its device; compiled blocks are run as they are written, so that this is an upper bound then.
        batch: on the host.
        settings: of the run.
        is_half: whether activations are bfloat16.
        recompute: whether only what enters a block is kept; the block in hand then comes on top.
    """
    device, model, kept = next(task.parameters()).device, task.model, _Kept()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=is_half)
    hooks = [block.register_forward_pre_hook(kept.enter) for block in model.blocks]
    hasten(model, settings.speed.model_copy(update={"compile": False, "checkpoint_blocks": recompute}))
    try:
        with set_stance("force_eager"), mode, autocast, saved_tensors_hooks(kept.keep, lambda tensor: tensor):
            task(_faked(batch, mode).to(device))
    finally:
        hasten(model, settings.speed.model_copy(update={"compile": False}))
        for hook in hooks:
            hook.remove()
    return sum(kept.sizes.values())


class _Kept:
    """Storages that outlive a forward pass, by their address, each counted once."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}

    def keep(self, tensor: Tensor) -> Tensor:
        """What autograd keeps; parameters are there anyway."""
        base = tensor if tensor._base is None else tensor._base
        if not (base.is_leaf and base.requires_grad):
            storage = tensor.untyped_storage()
            self.sizes[storage._cdata] = storage.nbytes()
        return tensor

    def enter(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        """What enters a block; where blocks are computed again nothing else of them is kept."""
        self.keep(inputs[0])


def _faked(batch: Batch, mode: FakeTensorMode) -> Batch:
    values: dict[str, Any] = {field.name: getattr(batch, field.name) for field in fields(batch)}
    fake = {name: mode.from_tensor(value) for name, value in values.items() if isinstance(value, Tensor)}
    segments = replace(batch.segments, bounds=mode.from_tensor(batch.segments.bounds))
    return Batch(**{**values, **fake, "segments": segments})


def _tensors(batch: Batch) -> list[Tensor]:
    values = (getattr(batch, field.name) for field in fields(batch))
    return [value for value in values if isinstance(value, Tensor)]
