"""Lists of words or hosts that a recipe names as a file: one entry a line, `#` begins a comment."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, PlainValidator

from lcl_data import files


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; write a list there, one entry a line")
    try:
        if not entries(path):
            raise ValueError(f"{path}: an empty list")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error})") from error
    return path


def _named(path: Path) -> str:
    """What the manifest says of it: a changed list is another setting, a moved one is not."""
    return f"{path.name} sha256:{files.sha256(path)}"


ListFile = Annotated[
    Path,
    PlainValidator(files.placed, json_schema_input_type=Path),
    AfterValidator(_readable),
    PlainSerializer(_named, str, when_used="json"),
]


def entries(path: Path) -> frozenset[str]:
    """The entries of a list, in lower case; read once in a process, unless the file changes."""
    state = path.stat()
    return _entries(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _entries(path: Path, *_: int) -> frozenset[str]:
    bare = (line.partition("#")[0].strip().lower() for line in path.read_text("utf-8").splitlines())
    return frozenset(filter(None, bare))
