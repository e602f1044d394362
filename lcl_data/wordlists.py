"""Lists of words or hosts that a recipe names as a file: one entry a line, `#` begins a comment."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from lcl_data.named_files import PLACED, State, by_content, state


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; write a list there, one entry a line")
    try:
        if not entries(path):
            raise ValueError(f"{path}: an empty list")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error})") from error
    return path


ListFile = Annotated[Path, PLACED, AfterValidator(_readable), by_content(lambda path: [path])]


def entries(path: Path) -> frozenset[str]:
    """The entries of a list, in lower case; read once in a process, unless the file changes."""
    return _entries(path, state([path]))


@lru_cache(maxsize=8)
def _entries(path: Path, _: State) -> frozenset[str]:
    bare = (line.partition("#")[0].strip().lower() for line in path.read_text("utf-8").splitlines())
    return frozenset(filter(None, bare))
