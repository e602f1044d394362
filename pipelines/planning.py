"""How `lcl train --plan` shows what it found: a table of what a person asks, in units a person reads."""

from collections.abc import Callable
from typing import Any

from pipelines.console import Console

Show = Callable[[Any], str]


def _millions(value: float) -> str:
    return f"{value / 1e6:,.2f} M"


def _giga(value: float) -> str:
    return f"{value / 1e9:,.4g} GFLOP"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:,.3f} GB"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


_LINES: tuple[tuple[str, str, str, Show], ...] = (
    ("parameters", "all", "parameters", _millions),
    ("parameters", "encoder", "  of the encoder, which is kept", _millions),
    ("parameters", "trained", "  that train", _millions),
    ("flops", "image_forward", "an image through the encoder, forward", _giga),
    ("flops", "image_training", "an image, forward and backward", _giga),
    ("flops", "row_training", "a row, forward and backward", _giga),
    ("flops", "run", "the run", _giga),
    ("rows", "rows", "rows of a step", _number),
    ("rows", "tokens_per_step", "tokens of a step", _number),
    ("rows", "images_per_step", "images of a step", _number),
    ("rows", "fill", "fill: positions that are no padding", _share),
    ("rows", "image_fill", "image budget in use", _share),
    ("length", "steps", "steps", _number),
    ("length", "epochs", "epochs", _number),
    ("memory", "weights", "memory, estimated: weights", _gigabytes),
    ("memory", "gradients", "  gradients", _gigabytes),
    ("memory", "optimizer", "  optimiser", _gigabytes),
    ("memory", "averages", "  averages", _gigabytes),
    ("memory", "activations", "  activations", _gigabytes),
    ("memory", "activations_recomputed", "  (with speed.checkpoint_blocks: instead)", _gigabytes),
    ("memory", "logits", "  logits of a chunk", _gigabytes),
    ("memory", "batches", "  batches in hand and ahead", _gigabytes),
    ("memory", "process", "  the process itself", _gigabytes),
    ("memory", "estimate", "  in all", _gigabytes),
    ("memory", "device_has", "  of", _gigabytes),
    ("memory", "estimate_to_peak", "  estimate / peak of the measured steps", _share),
    ("memory", "checkpoint", "a checkpoint on disk", _gigabytes),
    ("time", "step_s", "seconds of a step", _number),
    ("time", "load_s", "  of the loader alone", _number),
    ("time", "images_per_s", "images/s", _number),
    ("time", "mfu", "MFU of useful tokens", _share),
    ("time", "hours", "hours of the run", _number),
)


_FULL = 0.95


def show(found: dict[str, dict[str, Any]], console: Console) -> None:
    """Show a plan."""
    run, measured = found["run"], found["time"]["measured_rows"]
    rows = [(label, _shown(found[section][name], form)) for section, name, label, form in _LINES]
    console.table(f"plan: {run['preset']} on {run['device']}, {run['dtype']}", ("", ""), rows)
    fill, image_fill = found["rows"]["fill"], found["rows"]["image_fill"]
    if fill < _FULL and image_fill >= _FULL:
        console.say(
            f"rows are {fill:.0%} full, but may hold no more pictures: raise pack.row_images, or take "
            "shorter rows, with pack.row_tokens (docs/training.md)"
        )
    elif fill < _FULL:
        console.say(
            f"rows are {fill:.0%} full: more documents fit together into longer rows, with "
            "pack.part_tokens and a higher pack.row_images (docs/training.md)"
        )
    if found["time"]["step_s"] is None:
        console.say("it does not fit into memory: no step was taken; give fewer rows, or more accumulate")
    elif measured < found["rows"]["rows"]:
        console.say(f"time and peak: of steps of {measured:g} rows, taken in proportion for a whole one")


def _shown(value: float | None, form: Show) -> str:
    return "n/a" if value is None else form(value)
