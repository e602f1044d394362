"""Sources: one file per upstream format, each turning foreign rows into documents.

A source never raises for a bad row: it answers with the reason, and the ledger counts it. Only a file that
is torn as a whole raises, and fails alone.
"""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from lcl_data import files
from lcl_data.stage import Unit
from schemas.documents import Document
from schemas.errors import RecipeError, SourceError
from schemas.recipe import Settings


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one upstream row.

    Attributes:
        place: upstream file and line, for the rejects.
        nbytes: of the upstream row, so that the writer can bound its memory.
        images: image entries upstream, counted before any is judged.
        document: the document, or why there is none.
        lost: why image entries of a kept document were rejected, one error each.
    """

    place: str
    nbytes: int
    images: int
    document: Document | SourceError
    lost: tuple[SourceError, ...] = ()


@dataclass(frozen=True, slots=True)
class Files:
    """Several upstream files that make one shard.

    Attributes:
        root: the folder below which their names count.
        paths: of the files, in order.
    """

    root: Path
    paths: tuple[Path, ...]


class Source(Settings):
    """An upstream format: which files it has, and how to read one."""

    license: str | None = Field(None, description="licence of the annotations, where upstream states one")

    @abstractmethod
    def units(self, src: Path) -> list[Unit]:
        """The files at `src` (a file or a folder), each a unit of work whose payload is a path,
        `Packed` or `Files`.

        A number that upstream gave a file stays its number, whatever else is there.

        Raises:
            RecipeError: nothing of this format is there.
        """

    @abstractmethod
    def read(self, unit: Unit) -> Iterator[Row]:
        """Every row of a unit, streamed: memory is that of some rows, whatever the file.

        Raises:
            ShardError: the file is torn or of another format.
        """

    def notes(self, units: list[Unit]) -> list[str]:
        """Lines for the manifest: what is missing or odd about these files."""
        return []


def find(src: Path, endings: tuple[str, ...]) -> list[Path]:
    """Files at or below `src` with one of the endings, sorted; hidden ones are left out.

    Raises:
        RecipeError: there is no such file, or its name is in no encoding that ids and rejects can hold.
    """
    if not src.exists():
        raise RecipeError(f"{src}: no such file or folder")
    every = [src] if src.is_file() else files.below(src)
    found = [path for path in every if path.name.endswith(endings) and not path.name.startswith(".")]
    if not found:
        raise RecipeError(f"{src}: no file that ends in {' or '.join(endings)}")
    for path in found:
        name = str(path)
        if not name.isascii() and (plain := name.encode(errors="replace").decode()) != name:
            raise RecipeError(f"{plain}: the name is not UTF-8; rename the file (convmv renames a folder)")
    return found


def name_of(path: Path, src: Path) -> str:
    """What a file is called in ids and rejects: its path below `src`."""
    return path.name if path == src else path.relative_to(src).as_posix()


def numbered(named: Iterable[tuple[str, Any]], pattern: re.Pattern[str]) -> list[Unit]:
    """Units from (name, payload) pairs, numbered by group `number` of `pattern` in the name.

    A name without a number, or with one that is taken, gets the next free number after the largest.
    """
    found = sorted(named, key=lambda pair: pair[0])
    numbers = [_number(name, pattern) for name, _ in found]
    free = count(max((n for n in numbers if n is not None), default=-1) + 1)
    taken: set[int] = set()
    units = []
    for (name, payload), number in zip(found, numbers, strict=True):
        mine = next(free) if number is None or number in taken else number
        taken.add(mine)
        units.append(Unit(mine, name, payload))
    return sorted(units, key=lambda unit: unit.number)


def repeated(units: list[Unit], pattern: re.Pattern[str]) -> list[str]:
    """Names of units whose upstream number another unit has too."""
    numbers = [_number(unit.name, pattern) for unit in units]
    often = Counter(number for number in numbers if number is not None)
    return [
        u.name for u, number in zip(units, numbers, strict=True) if number is not None and often[number] > 1
    ]


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as people write them: `3, 7-9`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def row(
    place: str, nbytes: int, images: int, make: Callable[[], tuple[Document, tuple[SourceError, ...]]]
) -> Row:
    """The row that `make` finds, or the reason it gives for finding none."""
    try:
        document, lost = make()
    except SourceError as error:
        return Row(place, nbytes, images, error)
    return Row(place, nbytes, images, document, lost)


def parse(text: bytes | str, what: str) -> Any:
    """A JSON value.

    Raises:
        SourceError: `broken_json` (invalid UTF-8, NaN and lone surrogates included: none of them is JSON).
    """
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        raise SourceError("broken_json", f"{what}: {error}") from None


def dump(value: Any) -> str | None:
    """JSON of upstream fields that have no column; None for no field at all.

    Raises:
        SourceError: `too_deep`, nested deeper than 254 levels.
    """
    if not value:
        return None
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError as error:
        raise SourceError("too_deep", str(error)) from None


def need(row: dict[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """The value of a field that must be there and of the right type.

    Raises:
        SourceError: `missing_field` or `bad_type`.
    """
    try:
        value = row[key]
    except KeyError:
        raise SourceError("missing_field", key) from None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SourceError("bad_type", f"{key} is {type(value).__name__}")
    return value


def rest(row: dict[str, Any], used: frozenset[str]) -> dict[str, Any]:
    """The fields of a row that no column holds."""
    return {key: value for key, value in row.items() if key not in used}


def _number(name: str, pattern: re.Pattern[str]) -> int | None:
    found = pattern.search(name)
    return int(found["number"]) if found else None
