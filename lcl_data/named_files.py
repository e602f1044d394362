"""Files of a user that a setting names: a word list, an evaluation set.

Their content enters the digest of a stage, not their place: a changed file is another setting, a moved one is
not. What is read of them is kept in a process as long as no file changes.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import PlainSerializer, PlainValidator

from lcl_data import files

State = tuple[tuple[str, int, int], ...]

PLACED = PlainValidator(files.placed, json_schema_input_type=Path)  # on a disk or in object storage


def by_content(every: Callable[[Path], Iterable[Path]]) -> PlainSerializer:
    """How a setting of type path stands in manifests and digests; `every`: the files at or below it."""

    def named(path: Path) -> str:
        told = [[each.relative_to(path).as_posix(), files.sha256(each)] for each in every(path)]
        return f"{path.name} sha256:{files.digest(told)}"

    return PlainSerializer(named, str, when_used="json")


def state(paths: Iterable[Path]) -> State:
    """Another one once a file has changed; none is read for it."""
    facts = [(str(path), path.stat()) for path in paths]
    # Object storage knows no nanoseconds, and a disk's exceed what a float holds: a microsecond is enough.
    return tuple((name, int(stat.st_mtime * 1e6), stat.st_size) for name, stat in facts)
