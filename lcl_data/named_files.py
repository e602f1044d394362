"""Files of a user that a setting names: a word list, an evaluation set.

Their content enters the digest of a stage, not their place: a changed file is another setting, a moved one is
not. What is read of them is kept in a process as long as no file changes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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


def passed_over(folder: Path, taken: Iterable[Path], endings: Sequence[str]) -> list[str]:
    """A line that says what of a folder is not taken, so that nobody believes it is; hidden files aside."""
    if not folder.is_dir():
        return []
    others = [each for each in files.below(folder) if not each.name.startswith(".")]
    left = Counter(each.suffix or "no ending" for each in set(others).difference(taken))
    if not left:
        return []
    told = ", ".join(f"{number} {ending}" for ending, number in sorted(left.items()))
    return [f"of {folder.name} these files were not read: {told}; it takes {', '.join(endings)}"]
