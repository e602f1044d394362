"""Ranks: what the processes that torchrun launched share. A process on its own is rank 0 of 1.

Tensors of the network meet over nccl on CUDA and gloo on the CPU; host numbers (who has how many pairs, who
was told to stop) always meet over gloo, so that no step waits for its device.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from schemas.errors import RecipeError

Kind = Literal["ddp", "fsdp2"]
Value = TypeVar("Value")
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets


def rank() -> int:
    """The number of this process among all that are joined."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes are joined."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_launched() -> bool:
    """Whether torchrun launched this process as one of several."""
    return all(name in os.environ for name in _LAUNCHED) and int(os.environ["WORLD_SIZE"]) > 1


def is_main() -> bool:
    """Whether this process, joined or not, speaks and writes for all."""
    return not is_launched() or os.environ["RANK"] == "0"


def own_device(device: torch.device) -> torch.device:
    """This rank's of the devices of a kind: `cuda` is one GPU for each process of a machine.

    Raises:
        RecipeError: all ranks would share a GPU, or there are fewer GPUs than ranks.
    """
    if device.type != "cuda":
        return device
    if is_launched():
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if device.index is not None:
            raise RecipeError(f"device {device}: every rank takes a GPU of its own; give cuda")
        if local >= count:
            raise RecipeError(
                f"rank {os.environ['RANK']}: this machine has {count} GPUs; give --nproc-per-node {count}"
            )
        device = torch.device("cuda", local)
    device = torch.device("cuda", device.index or 0)
    torch.cuda.set_device(device)
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """The time in which the ranks can hear each other; nothing happens to one process, or inside such a time.

    After an error nobody is waited for: torchrun ends the others.
    """
    if not is_launched() or dist.is_initialized():
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        barrier()  # a rank that leaves early takes its end of the connections with it
    finally:
        dist.destroy_process_group()


def total(numbers: Sequence[int]) -> list[int]:
    """Host numbers, each summed over the ranks."""
    return _agreed(numbers, dist.ReduceOp.SUM)


def largest(number: int) -> int:
    """The largest of the ranks' host numbers."""
    return _agreed([number], dist.ReduceOp.MAX)[0]


def _agreed(numbers: Sequence[int], how: Any) -> list[int]:
    if world() == 1:
        return list(numbers)
    values = torch.tensor(numbers, dtype=torch.float64)  # exact up to 2^53; operations go beyond int64
    dist.all_reduce(values, how)
    return [int(value) for value in values.tolist()]


def everyones(value: Value) -> list[Value]:
    """What each rank has to tell, in the order of ranks: small host values, of any size on each."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)  # over gloo: the group has a CPU backend
    return found


def barrier() -> None:
    """Wait until all ranks are here."""
    total([0])


def all_sum(value: Tensor) -> Tensor:
    """The sum of the ranks' tensors, without a graph."""
    value = value.detach().clone()
    if world() > 1:
        dist.all_reduce(value)
    return value


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all ranks, in the order of ranks; the gradient of a row is summed over all who used it.

    Args:
        rows: [n, ...], n equal on all ranks.

    Returns:
        [world * n, ...].
    """
    if world() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        gathered = rows.new_empty(world() * len(rows), *rows.shape[1:])
        dist.all_gather_into_tensor(gathered, rows.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        own = gradient.new_empty(len(gradient) // world(), *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient.contiguous())
        return own


def wrap(
    module: nn.Module, kind: Kind, blocks: Sequence[nn.Module], device: torch.device, is_half: bool = False
) -> nn.Module:
    """The module with gradients averaged over the ranks; itself for a process on its own.

    Args:
        module: on its device; every parameter that wants a gradient gets one in every step.
        kind: ddp keeps all on every rank; fsdp2 shards weights, gradients and optimiser state.
        blocks: parts of it that fsdp2 gathers one by one.
        device: of this rank.
        is_half: whether fsdp2 gathers the blocks' weights in bfloat16, on CUDA; gradients are summed in fp32.
    """
    if world() == 1:
        return module
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(
            module, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (world(),))
    half = torch.bfloat16 if is_half and device.type == "cuda" else None
    policy = MixedPrecisionPolicy(half, torch.float32, cast_forward_inputs=False)  # the stream stays fp32
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh)  # norms, temperature, heads and embeddings are gathered in fp32
    return module


def let_go(module: nn.Module) -> None:
    """Forget what fsdp2 keeps whole after a pass without gradients: the next one gathers it anew."""
    if world() == 1:
        return
    from torch.distributed.fsdp import FSDPModule

    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def own_part(value: Tensor) -> Tensor:
    """What this rank holds of a tensor that may be sharded."""
    part: Tensor = value.to_local() if hasattr(value, "to_local") else value
    return part


def whole(value: Tensor) -> Tensor:
    """All of a tensor that may be sharded; all ranks must ask for it, in the same order."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def laid_out(value: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, which all ranks hold, on the device of `model` and sharded as that is."""
    value = value.to(model.device)
    if not isinstance(model, DTensor) or value.shape != model.shape:
        return value
    return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)
