"""Files, on disk or in object storage, whose presence is a proof: written under a temporary name, then made
final in one step; and their digests.

This is the one place that knows of object storage. A path in it (`s3://`, `gs://`, `hf://`) is made by
`place` alone and has the methods of `pathlib.Path`; it differs where a file is written, opened by a library,
or moved, and there the functions below stand between. Local work imports nothing of it.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, cast

from schemas.errors import RecipeError

TEMPORARY = ".tmp-"
SCRATCH = "LCL_SCRATCH"  # environment: folder for what cannot lie in object storage while it is made
_REMOTE = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_DOUBLED = re.compile(r"(?<!:)//+")  # no folder on a disk has an empty name
_STORES = ("s3", "gs", "hf")
_CLIENTS = ("botocore", "aiobotocore", "gcsfs", "google", "huggingface_hub", "aiohttp")
_BLOCK = 1 << 20
_EDGE = 1 << 16
# Of an object that is read: a footer or a column chunk is a request or two, a whole file some dozens.
_OBJECT_BLOCK, _OBJECT_BLOCKS = 4 << 20, 8
_NEAR_BLOCK = 128 << 10  # of an object of which one picture is wanted


def place(text: str | Path) -> Path:
    """The path that a person means: of this machine, or in object storage.

    Never to be given what a foreign file says: only what a command, a recipe or a carrier does.

    Raises:
        RecipeError: an unknown kind of storage, or its library is not installed.
    """
    if not isinstance(text, str):
        return text
    found = _REMOTE.match(text)
    if found is None:
        return Path(text)
    if found[1] not in _STORES:
        known = ", ".join(f"{each}://" for each in _STORES)
        raise RecipeError(f"{text}: no storage that lcl knows; give a local path, or one of {known}")
    try:
        from upath import UPath

        # Other processes write into the same folders, so that a remembered listing would lie.
        path = UPath(_DOUBLED.sub("/", text).rstrip("/"), use_listings_cache=False)
        _ = path.fs
    except ImportError as error:
        raise RecipeError(f"{text}: {error}; pip install 'lcl[cloud]'") from error
    return cast(Path, path)  # it has the methods, not the class


def placed(value: Any) -> Path:
    """`place` for a setting of a recipe.

    Raises:
        ValueError: the value is no text.
        RecipeError: as of `place`.
    """
    if not isinstance(value, str | Path) and not hasattr(value, "fs"):
        raise ValueError("a path is a text")
    return place(value)


def is_remote(path: Path) -> bool:
    """Whether a path lies in object storage."""
    return not isinstance(path, Path)


def need_local(path: Path, why: str) -> None:
    """Refuse object storage where it cannot serve.

    Raises:
        RecipeError: `why`, which should say what to do.
    """
    if is_remote(path):
        raise RecipeError(f"{path}: {why}")


def must_be_copied(*folders: Path) -> None:
    """Refuse object storage for training.

    Raises:
        RecipeError: a folder lies there.
    """
    for folder in folders:
        need_local(
            folder,
            "training maps shards into memory, reads them in any order and writes to a local disk; copy the "
            "folder to one and give that to `lcl train` (--set train=null makes the shards of a recipe here)",
        )


def is_storage_fault(error: BaseException) -> bool:
    """Whether a client of object storage raised this: no credentials, no answer."""
    return type(error).__module__.partition(".")[0] in _CLIENTS


def temporary(path: Path) -> Path:
    """The name under which this process writes `path` until it is whole; always on this machine.

    No other process has the same: a worker that outlives its run for a moment, or a node that a cluster has
    given up, must not write into, or rename, what its successor writes.
    """
    process = _process(os.getpid())
    if is_remote(path):
        return _waiting_room() / f"{TEMPORARY}{_digest_of(path.parent)}-{process}-{path.name}"
    return path.with_name(f"{TEMPORARY}{process}-{path.name}")


@cache
def _process(number: int) -> str:
    """A name of process `number`, which a fork does not inherit, among all processes of all machines."""
    return f"{number}{token_hex(4)}"


def publish(path: Path) -> None:
    """Make the file written as `temporary(path)` durable and give it its name, in one step.

    An object appears when all of it was received, or not at all: that is as good a proof as a rename.

    Raises:
        OSError: the disk is full or gone; the file then keeps its temporary name and proves nothing.
    """
    draft = temporary(path)
    if is_remote(path):
        system, name = object_of(path)
        system.put_file(str(draft), name)
        draft.unlink()
        return
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def write(path: Path, content: bytes) -> None:
    """Write a small file atomically."""
    temporary(path).write_bytes(content)
    publish(path)


def sweep(folder: Path) -> None:
    """Remove what a killed run left half-written; of object storage, what it left on this machine."""
    drafts = f"{TEMPORARY}{_digest_of(folder)}-*" if is_remote(folder) else f"{TEMPORARY}*"
    for path in (_waiting_room() if is_remote(folder) else folder).glob(drafts):
        path.unlink(missing_ok=True)  # a worker of a killed run may publish it in its last moment


def make(folder: Path) -> None:
    """Make a folder and those above it; object storage has none to make, and no bucket is ever made."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove(folder: Path) -> None:
    """Remove a folder and all in it, if it is there."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        system, name = object_of(folder)
        system.rm(name, recursive=True)


def inside(folder: Path) -> list[Path]:
    """What lies directly in a folder that was made; object storage knows none that is empty."""
    if not is_remote(folder):
        return list(folder.iterdir())
    return list(folder.iterdir()) if folder.is_dir() else []


def below(folder: Path) -> list[Path]:
    """All files in a folder and in those below it, by the parts of their paths."""
    if is_remote(folder):
        system, name = object_of(folder)
        found = [folder / each[len(name) + 1 :] for each in system.find(name)]
    else:
        found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.parts)


def scratch(folder: Path) -> Path:
    """Where the many small files lie that are made on the way to `folder`: in it, or on this machine.

    It is the same for every run, so that a killed one goes on there.
    """
    return _scratch() / _digest_of(folder) if is_remote(folder) else folder


def opened(path: Path, is_near: bool = False, buffering: int = -1) -> BinaryIO:
    """Open a file to read and seek in it.

    Args:
        path: of the file.
        is_near: little of it is wanted, and that lies together.
        buffering: as of `Path.open`, on a disk.
    """
    if not is_remote(path):
        return path.open("rb", buffering=buffering)
    system, name = object_of(path)
    if is_near:
        found = system.open(name, "rb", block_size=_NEAR_BLOCK, cache_type="readahead")
    else:
        blocks = {"maxblocks": _OBJECT_BLOCKS}
        kind = {"cache_type": "blockcache", "cache_options": blocks}
        found = system.open(name, "rb", block_size=_OBJECT_BLOCK, **kind)
    return io.BufferedReader(found)  # it cannot read a line up to a length


def reading(path: Path) -> Any:
    """What Arrow takes for a file: its path, or the file opened, whichever it can read."""
    return opened(path) if is_remote(path) else path


@contextmanager
def at_hand(path: Path) -> Iterator[Path]:
    """The file on this machine, for those who read all of it or can only read there.

    Raises:
        FileNotFoundError: it is not there.
    """
    if not is_remote(path):
        yield path
        return
    system, name = object_of(path)
    copy = temporary(path.with_name(f"{token_hex(4)}-{path.name}"))
    try:
        system.get_file(name, str(copy))
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def object_of(path: Path) -> tuple[Any, str]:
    """The file system of fsspec that holds a remote path, and its name there."""
    remote: Any = path
    return remote.fs, remote.path.rstrip("/")


def _digest_of(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _scratch() -> Path:
    if named := os.environ.get(SCRATCH):
        return Path(named)
    folder = Path(tempfile.gettempdir()) / f"lcl-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():  # what lies there is believed
        raise RecipeError(f"{folder}: belongs to another user; name a folder of yours: {SCRATCH}=...")
    return folder


def _waiting_room() -> Path:
    """Where what is written to object storage lies until it is whole."""
    folder = _scratch() / "drafts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto


def fingerprint(path: Path) -> str:
    """Hex digest of a foreign file's name, size, first and last 64 KiB: cheap on a 200 GB corpus.

    A change in the middle of a file of equal size goes unseen; a torn, repaired or re-downloaded file does
    not.
    """
    size = path.stat().st_size
    with opened(path, is_near=True) as file:
        head = file.read(_EDGE)
        file.seek(max(0, size - _EDGE))
        return digest([path.name, size, hashlib.sha256(head + file.read(_EDGE)).hexdigest()])


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
