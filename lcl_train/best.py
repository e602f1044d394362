"""Which checkpoint of a run did best: a small file beside them, and so a checkpoint that is not pruned."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import CheckpointError

_FILE = "best.json"


class Best(BaseModel):
    """A checkpoint, and what it was judged by.

    Attributes:
        step: its optimiser steps.
        metric: name of what was measured.
        value: what it was.
    """

    model_config = ConfigDict(extra="forbid")
    step: int
    metric: str
    value: float


def mark(folder: Path, best: Best) -> None:
    """Name the best checkpoint of a folder, which is kept until another is named. Rank 0 alone calls it."""
    draft = folder / f".tmp-{_FILE}"
    draft.write_text(best.model_dump_json(indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / _FILE)


def read(folder: Path) -> Best | None:
    """The best checkpoint of a folder; None while none is named.

    Raises:
        CheckpointError: the file is none of LCL.
    """
    file = folder / _FILE
    try:
        return Best.model_validate_json(file.read_bytes()) if file.exists() else None
    except ValidationError as error:
        raise CheckpointError(f"{file}: names no checkpoint; remove it") from error


def forget(folder: Path) -> None:
    """Name none."""
    (folder / _FILE).unlink()
