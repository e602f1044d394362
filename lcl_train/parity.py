"""Our losses and gradients against stored ones of the reference: `python -m lcl_train.parity FIXTURE.npz`.

The model, collator and objective are those of training, and every error is the worse of two layouts: one
document in a row, and all documents packed into one row.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcl_data.shards import SpecialTokens
from lcl_train.collate import Batch, Placed, collate
from lcl_train.contrast import ContrastSettings
from lcl_train.layout import Part, Segment, part_tokens
from lcl_train.model import LCLModel
from lcl_train.objectives.lcl import Lcl
from lcl_train.reference import convert, import_reference
from lcl_train.task import Task

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4
Arrays = dict[str, NDArray[Any]]


def parity(fixture: Path) -> dict[str, float]:
    """Run a fixture and compare.

    Args:
        fixture: an .npz of `param/*`, `input/*`, `output/*`, `grad/*`; the sizes lie in the .json beside it.

    Returns:
        The losses `contrastive`, `generation` and `total` of packed rows; `max_rel_err_loss` and
        `max_rel_err_grad` (relative to each gradient's norm), the largest over both layouts.
    """
    with np.load(fixture, allow_pickle=False) as stored:
        arrays = dict(stored)
    sizes = json.loads(fixture.with_suffix(".json").read_text())
    model = import_reference(_tensors(arrays, "param/"), sizes["vision_head_width"], sizes["lm_heads"])
    gradients = convert(_tensors(arrays, "grad/"), model)
    objective = Lcl(
        contrastive_weight=sizes["contrastive_weight"],
        generation_weight=sizes["generation_weight"],
        contrast=ContrastSettings(mask_copies=False),
    )
    task = Task(model, objective)
    report: dict[str, float] = {"max_rel_err_loss": 0.0, "max_rel_err_grad": 0.0}
    for batch in layouts(arrays, sizes, model.slots):
        losses = _step(task, batch)
        worst = max(_relative(losses[name], float(arrays[f"output/{name}"])) for name in losses)
        report["max_rel_err_loss"] = max(report["max_rel_err_loss"], worst)
        report["max_rel_err_grad"] = max(report["max_rel_err_grad"], _gradient_error(model, gradients))
    return {**losses, **report}


def layouts(arrays: Arrays, sizes: dict[str, Any], slots: int) -> tuple[Batch, Batch]:
    """The fixture's documents as two batches: each in a row of its own, and all in one row."""
    ids = {**sizes["special"], "vocab_size": sizes["vocab_size"]}
    specials = SpecialTokens(image=ids.pop("img"), **ids)
    documents = [_contract(row, specials) for row in arrays["input/token_ids"]]
    pixels = torch.from_numpy(arrays["input/pixels"])
    lengths = [part_tokens(document.part, specials, slots) for document in documents]
    alone = collate([[document] for document in documents], pixels, specials, slots, max(lengths))
    return alone, collate([documents], pixels, specials, slots, sum(lengths))


def _contract(row: NDArray[np.int64], specials: SpecialTokens) -> Placed:
    """A padded row of the reference as a document with one token per image."""
    row = row[: np.flatnonzero(row != specials.pad)[-1] + 1]
    row = row[(row != specials.image) & (row != specials.eoi)]
    tokens = np.where(row == specials.boi, specials.image, row).astype(np.int32)
    images = np.arange(np.count_nonzero(row == specials.boi))
    return Placed(Part((Segment(tokens, images),), images), ["0"] * len(images))


def _step(task: Task, batch: Batch) -> dict[str, float]:
    task.zero_grad()
    loss = task(batch)
    loss.total.backward()
    return {name: loss.parts[name].item() for name in ("contrastive", "generation", "total")}


def _gradient_error(model: LCLModel, expected: dict[str, Tensor]) -> float:
    """The largest distance of a gradient from the expected one, relative to its norm.

    A gradient is passed over if both sides are rounding of the whole one: a bias of the keys adds one number
    to all logits of a softmax, so its exact gradient is 0.
    """
    noise = torch.finfo(torch.float32).eps * torch.stack([x.norm() for x in expected.values()]).norm()
    worst = 0.0
    for name, parameter in model.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if max(found.norm(), expected[name].norm()) > noise:
            worst = max(worst, float((found - expected[name]).norm() / expected[name].norm()))
    return worst


def _relative(found: float, expected: float) -> float:
    return abs(found - expected) / max(abs(expected), 1e-12)


def _tensors(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def main() -> int:
    """Compare a fixture; 0 if it agrees, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m lcl_train.parity", description=__doc__)
    parser.add_argument("fixture", type=Path, help="the .npz file; its .json lies beside it")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    report = parity(arguments.fixture)
    agrees = report["max_rel_err_loss"] < LOSS_TOLERANCE and report["max_rel_err_grad"] < GRADIENT_TOLERANCE
    if arguments.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        sys.stderr.writelines(f"{name:18} {value:.10g}\n" for name, value in report.items())
        sys.stderr.write("agrees with the reference\n" if agrees else "DIFFERS from the reference\n")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
