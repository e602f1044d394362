"""Stops a run whose loss or gradient is no number, and keeps the batch that did it, to be tried again.

On a CPU a step is looked at before its update. On CUDA nobody waits for the step in hand: its values are
looked at two steps later, when they have long arrived, and until then the update is held back on the device
(as torch's GradScaler does), so that the weights stay those of before.
"""

import json
import math
import shutil
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lcl_train.attend import Segments
from lcl_train.collate import Batch
from lcl_train.tensor_files import on_host, write_tensors
from schemas.errors import LclError

_BEHIND = 2  # steps; the host is hardly ever further ahead of the device
_TENSORS, FACTS, WEIGHTS = "batch-{}.safetensors", "facts.json", "model.safetensors"
_NAMED = 3  # documents in the message; the others are in the facts


@dataclass(frozen=True, slots=True)
class _Seen:
    """A step whose values are on their way to the host."""

    step: int
    batches: Sequence[Batch]
    names: list[str]
    values: Tensor
    arrived: torch.cuda.Event | None


class Guard:
    """Looks at the values of every step, once they are there."""

    def __init__(
        self,
        out: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        facts: dict[str, Any],
        rank: int = 0,
    ) -> None:
        """Watch a run.

        Args:
            out: its folder.
            model: whose weights are kept with a batch that goes wrong.
            optimizer: whose updates are held back then, where it can do that: AdamW.
            facts: what is told with the batch: the settings and sizes of the run.
            rank: of this process, each of which keeps its own part of the batch.
        """
        self.out, self._model, self._facts, self._rank = out, model, facts, rank
        self._waiting: deque[_Seen] = deque()
        self._device = next(model.parameters()).device
        self._is_bad = torch.zeros((), device=self._device)
        if self._device.type == "cuda":
            optimizer.found_inf = self._is_bad  # type: ignore[attr-defined]

    def watch(self, step: int, batches: Sequence[Batch], values: dict[str, Tensor]) -> None:
        """Take note of a step before its update, and look at the one before the last.

        Args:
            step: 1-based.
            batches: what it learns from, on the host.
            values: scalars by name, on the device.

        Raises:
            LclError: a step seen so far gave a value that is no number.
        """
        stacked = torch.stack([value.detach().float() for value in values.values()])
        arrived = None
        if self._device.type == "cuda":
            torch.maximum(self._is_bad, 1 - stacked.isfinite().all().float(), out=self._is_bad)
            stacked = torch.empty_like(stacked, device="cpu", pin_memory=True).copy_(
                stacked, non_blocking=True
            )
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        self._waiting.append(_Seen(step, batches, list(values), stacked, arrived))
        self.settle(0 if arrived is None else _BEHIND)

    def settle(self, behind: int = 0) -> None:
        """Look at all steps but the last `behind`.

        Raises:
            LclError: one of them gave a value that is no number.
        """
        while len(self._waiting) > behind:
            seen = self._waiting.popleft()
            if seen.arrived is not None:
                seen.arrived.synchronize()
            values = dict(zip(seen.names, seen.values.tolist(), strict=True))
            if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
                raise LclError(_message(seen, wrong, self._kept(seen, values), self.out))

    def _kept(self, seen: _Seen, values: dict[str, float]) -> tuple[str, str]:
        """What became of the batch, and what to do with it."""
        folder = self.out / f"nan-step-{seen.step:08d}" / f"rank-{self._rank}"
        weights = on_host(self._model.state_dict())  # all ranks, whatever their disks
        try:
            self._keep(folder, seen, values, weights)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            return f"its batch could not be kept: {error}", "free space and run the same command again"
        return f"its batch is kept in {folder}", "see docs/training.md for how to try it again"

    def _keep(self, folder: Path, seen: _Seen, values: dict[str, float], weights: dict[str, Tensor]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        told_of = []
        for number, batch in enumerate(seen.batches):
            tensors, rest = _taken_apart(batch)
            write_tensors(folder / _TENSORS.format(number), tensors)
            told_of.append(rest)
        told = {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
        facts = {"step": seen.step, "values": told, "batches": told_of, **self._facts}
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if weights and all(weight.isfinite().all() for weight in weights.values()):
            write_tensors(folder / WEIGHTS, weights)


def _message(seen: _Seen, wrong: list[str], kept: tuple[str, str], out: Path) -> str:
    all_documents = chain.from_iterable(batch.documents for batch in seen.batches)
    documents = list(dict.fromkeys(filter(None, all_documents)))
    others = f" and {len(documents) - _NAMED} more" if len(documents) > _NAMED else ""
    return (
        f"step {seen.step}: {', '.join(wrong)} is no number; {kept[0]} (documents "
        f"{', '.join(documents[:_NAMED])}{others}): {kept[1]}, or "
        f"go on from the last checkpoint in {out} with a lower optimizer.lr"
    )


def _taken_apart(batch: Batch) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its tensors, and all else as JSON values."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    tensors = {name: value.contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    rest = {name: value for name, value in values.items() if name not in tensors and name != "segments"}
    return tensors, {**rest, "lengths": batch.segments.lengths, "causal": batch.segments.causal}


def kept_batches(folder: Path) -> list[Batch]:
    """The batches of a step that went wrong, as they were."""
    facts = json.loads((folder / FACTS).read_bytes())["batches"]
    tensors = (load_file(folder / _TENSORS.format(number)) for number in range(len(facts)))
    return [_put_together(*each) for each in zip(tensors, facts, strict=True)]


def _put_together(tensors: dict[str, Tensor], rest: dict[str, Any]) -> Batch:
    rest["segments"] = Segments.of(rest.pop("lengths"), causal=rest.pop("causal"))
    ids = {name: tuple(rest[name]) for name in ("documents", "sources")}
    return Batch(**{**rest, **ids, **tensors})
