"""The folders of a run's checkpoints: one that has its name is whole, whatever was killed when.

A folder gets its name when all of it is on the disk, and loses it before any of it is removed.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

TEMPORARY = ".tmp-"
_PREFIX = "step-"


def named(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"{_PREFIX}{step:08d}"


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a folder, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def cut(folder: Path, step: int) -> None:
    """Remove what came after a step, the newest first, because the run goes back to it."""
    remove(path for path in reversed(checkpoints(folder)) if path > named(folder, step))


def remove(paths: Iterable[Path]) -> None:
    """Remove checkpoints, each under a name that nobody takes for one."""
    for path in paths:
        gone = path.with_name(f"{TEMPORARY}gone-{path.name}")
        path.rename(gone)
        shutil.rmtree(gone)


def sweep(folder: Path) -> None:
    """Remove what a killed run left half-written or half-removed."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path)
