"""Files whose presence is a proof: written under a temporary name, synced, then renamed; and their
digests.
"""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any

TEMPORARY = ".tmp-"
_BLOCK = 1 << 20
_EDGE = 1 << 16


def temporary(path: Path) -> Path:
    """The name under which this process writes `path` until it is whole.

    No other process has the same: a worker that outlives its run for a moment, or a node that a cluster has
    given up, must not write into, or rename, what its successor writes.
    """
    return path.with_name(f"{TEMPORARY}{_process(os.getpid())}-{path.name}")


@cache
def _process(number: int) -> str:
    """A name of process `number`, which a fork does not inherit, among all processes of all machines."""
    return f"{number}{token_hex(4)}"


def publish(path: Path) -> None:
    """Make the file written as `temporary(path)` durable and give it its name, in one step.

    Raises:
        OSError: the disk is full or gone; the file then keeps its temporary name and proves nothing.
    """
    draft = temporary(path)
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def write(path: Path, content: bytes) -> None:
    """Write a small file atomically."""
    temporary(path).write_bytes(content)
    publish(path)


def sweep(folder: Path) -> None:
    """Remove what a killed run left half-written."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink()


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """Hex digest of a foreign file's name, size, first and last 64 KiB: cheap on a 200 GB corpus.

    A change in the middle of a file of equal size goes unseen; a torn, repaired or re-downloaded file does
    not.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_EDGE)
        file.seek(max(0, size - _EDGE))
        return digest([path.name, size, hashlib.sha256(head + file.read(_EDGE)).hexdigest()])


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
