"""Whether an accelerator computes what the CPU does: loss and gradients of every back end, warm steps.

    python benchmarks/gpu/check.py [--device cuda] [--preset small]

The reference is a step on the CPU in fp32. In fp32 (TF32 off) losses must agree to 1e-4 and the gradient, as
one vector, to 1e-3 of its norm; in bfloat16 to 1e-2 and 1e-1. Then a dozen steps are run: once warm, none may
compile anything, and on CUDA none may wait for the device. Exit code 1 if anything differs.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._dynamo.utils import counters

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.gpu.drawn import draw
from lcl_data.shards import Shards
from lcl_train.collate import Batch
from lcl_train.model import LCLModel
from lcl_train.objectives.lcl import Lcl
from lcl_train.run import Run
from lcl_train.settings import Train
from lcl_train.speed import SpeedSettings, hasten
from lcl_train.task import Task
from schemas.overrides import settle

SEED, WARM, STEPS = 0, 8, 12


class Way(NamedTuple):
    """One way to run a step, and how far it may be off."""

    dtype: str
    attention: str
    compile: bool
    checkpoint_blocks: bool

    @property
    def tolerances(self) -> tuple[float, float]:
        """Of the loss, and of the gradient."""
        return (1e-4, 1e-3) if self.dtype == "float32" else (1e-2, 1e-1)


def ways(device: str) -> list[Way]:
    """What a device can do; the CPU has one kind of attention."""
    kinds = ("auto", "flex") if device.startswith("cuda") else ("auto",)
    plain = [Way(dtype, kind, False, False) for dtype in ("float32", "bfloat16") for kind in kinds]
    half = [Way("bfloat16", kind, True, recompute) for kind in kinds for recompute in (False, True)]
    return plain + half


def gradient(model: LCLModel, batch: Batch, is_half: bool) -> tuple[float, Tensor]:
    """The loss, and the gradient of all parameters as one fp32 vector on the CPU."""
    model.zero_grad()
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=is_half):
        loss = Task(model, Lcl())(batch).total
    loss.backward()
    parts = [p.grad.float().cpu().flatten() for p in model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(parts)


def compare(sizes: Any, batch: Batch, way: Way, device: str, backend: str) -> dict[str, Any]:
    """A step this way against fp32 on the CPU, from equal weights."""
    torch.manual_seed(SEED)
    model = LCLModel(sizes)
    expected, direction = gradient(model, batch, is_half=False)
    model = model.to(device)
    chosen = {"attention": way.attention, "compile": way.compile, "checkpoint_blocks": way.checkpoint_blocks}
    hasten(model, SpeedSettings.model_validate(chosen), backend)
    found, ours = gradient(model, batch.to(device), way.dtype == "bfloat16")
    errors = abs(found - expected) / abs(expected), float((ours - direction).norm() / direction.norm())
    is_right = all(error <= most for error, most in zip(errors, way.tolerances, strict=True))
    return {**way._asdict(), "loss_error": errors[0], "gradient_error": errors[1], "is_right": is_right}


def warm_steps(shards: Shards, settings: Train, backend: str) -> dict[str, Any]:
    """Steps after the first ones: how many graphs they compile; on CUDA a wait raises."""
    with tempfile.TemporaryDirectory() as out:
        run = Run(shards, Path(out), settings)
    hasten(run.model, SpeedSettings(compile=True), backend)
    batches = iter(run.loader)
    given = [next(batches) for _ in range(STEPS)]
    batches.close()
    for batch in given[:WARM]:
        run.advance(batch)
    warm, on_cuda = counters["stats"]["unique_graphs"], run.device.type == "cuda"
    if on_cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        told = [run.advance(batch) for batch in given[WARM:]]
    finally:
        if on_cuda:
            torch.cuda.set_sync_debug_mode("default")
    anew = counters["stats"]["unique_graphs"] - warm
    is_right = anew == 0 and all(bool(value.isfinite()) for value in told[-1].values.values())
    return {"warm_steps": STEPS - WARM, "compiled_anew": anew, "is_right": is_right}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare every way; 0 if all agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--row-tokens", type=int, default=2048)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    given = parser.parse_args(arguments)
    section = {"preset": given.preset, "rows": 2, "steps": STEPS, "device": given.device}
    pack = {"row_tokens": given.row_tokens, "row_images": 24}
    settings = settle(Train, {**section, "pack": pack, "speed": {"compile": False}})
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(draw(Path(folder) / "shards", documents=150, side=64, distinct=20))
        with tempfile.TemporaryDirectory() as out:
            run = Run(shards, Path(out), settings)
        (batch, sizes) = next(iter(run.loader)), run.sizes
        found = [compare(sizes, batch, way, given.device, given.backend) for way in ways(given.device)]
        found.append(warm_steps(shards, settings, given.backend))
    for line in found:
        print(
            " ".join(
                f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in line.items()
            )
        )
    return 0 if all(line["is_right"] for line in found) else 1


if __name__ == "__main__":
    sys.exit(main())
