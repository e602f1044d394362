"""The texts of an evaluation set, as a user has them, and an index of their word n-grams.

The index lies in memory, in every worker: 24 bytes for each n-gram (about one a word), 16 MB at least.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import AfterValidator

from lcl_data import files
from lcl_data.named_files import PLACED, State, by_content, passed_over, state
from lcl_data.shingles import Hashes, Ngrams, ngrams, runs, words
from schemas.errors import RecipeError

SUFFIXES = (".txt", ".jsonl", ".parquet")
_FILTER_BITS = 24
_BATCH = 1000  # texts hashed at a time


def _found(path: Path) -> Path:
    if not _files(path):
        raise ValueError(f"{path}: no file {', '.join(SUFFIXES)}; name one, or a folder of them")
    return path


def _files(path: Path) -> list[Path]:
    found = files.below(path) if path.is_dir() else [path]
    return [each for each in found if each.suffix.lower() in SUFFIXES and each.is_file()]


def unread(path: Path) -> list[str]:
    """A line that says which files of the set's folder hold no texts that are read."""
    return passed_over(path, _files(path), SUFFIXES)


EvaluationTexts = Annotated[Path, PLACED, AfterValidator(_found), by_content(_files)]


@dataclass(frozen=True, slots=True)
class Index:
    """The n-grams of an evaluation set.

    Attributes:
        values: hashes, in ascending order.
        checks: a second hash of each.
        entries: which entry of `names` each comes from.
        names: `file:row` of each text, the file by its path below the folder.
        rows: how many rows with a text there are.
        short: how many of them have no text of so many words.
        sieve: whether any hash begins with these bits: most of a corpus never meets the set.
    """

    values: Hashes
    checks: Hashes
    entries: NDArray[np.int64]
    names: list[str]
    rows: int
    short: int
    sieve: NDArray[np.bool_]

    def find(self, corpus: Ngrams, hashed: Hashes, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which n-grams of a corpus the set holds, and the entry of each.

        Args:
            corpus: the n-grams asked about.
            hashed: the words they are made of.
            size: words of an n-gram.
        """
        hits = np.flatnonzero(self.sieve[corpus.values >> np.uint64(64 - _FILTER_BITS)])
        places = np.searchsorted(self.values, corpus.values[hits])
        same = self.values[np.minimum(places, len(self.values) - 1)] == corpus.values[hits]
        hits, places = hits[same], places[same]
        checked = self.checks[places] == runs(hashed, corpus.firsts[hits], size, salt=1)
        return hits[checked], self.entries[places[checked]]


def index(path: Path, fields: tuple[str, ...], size: int) -> Index:
    """The n-grams of `size` words of an evaluation set; made once in a process, unless a file changes.

    Raises:
        RecipeError: a file cannot be read, or no text has so many words.
    """
    return _index(path, fields, size, state(_files(path)))


@lru_cache(maxsize=2)
def _index(path: Path, fields: tuple[str, ...], size: int, _: State) -> Index:
    names: list[str] = []
    long: set[str] = set()
    parts = [_hashed(batch, names, long, size) for batch in _batches(path, fields)]
    if not sum(len(part[0]) for part in parts):
        raise RecipeError(f"{path}: no text of {size} words or more; lower `ngram`, or look at `fields`")
    every, checks, entries = (np.concatenate([part[column] for part in parts]) for column in range(3))
    values, first = np.unique(every, return_index=True)
    sieve = np.zeros(1 << _FILTER_BITS, np.bool_)
    sieve[values >> np.uint64(64 - _FILTER_BITS)] = True
    rows = len(set(names))
    return Index(values, checks[first], entries[first].astype(np.int64), names, rows, rows - len(long), sieve)


def _hashed(
    batch: list[tuple[str, str]], names: list[str], long: set[str], size: int
) -> tuple[Hashes, Hashes, NDArray[np.int64]]:
    """Hashes, second hashes and entries of a batch; all names go to `names`, of long texts to `long`."""
    hashed = words(pl.Series([text for _, text in batch], dtype=pl.String))
    found = ngrams(hashed, size)
    entries = found.owners + len(names)
    names.extend(name for name, _ in batch)
    long.update(batch[text][0] for text in np.flatnonzero(found.counts).tolist())
    return found.values, runs(hashed.values, found.firsts, size, salt=1), entries


def _batches(path: Path, fields: tuple[str, ...]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for file in _files(path):
        name = file.name if file == path else file.relative_to(path).as_posix()
        for number, kept in enumerate(_chosen(file, fields)):
            batch += [(f"{name}:{number}", text) for text in _strings(kept)]
            if len(batch) >= _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _chosen(file: Path, fields: tuple[str, ...]) -> Iterator[Any]:
    """What is compared of each row of a file; whole where no field is named, or the row has none.

    Raises:
        RecipeError: the file has rows with fields, and none of those that are named.
    """
    seen: set[str] = set()
    for row in _rows(file):
        if not fields or not isinstance(row, dict):
            yield row
            continue
        seen.update(row)
        yield {name: row[name] for name in fields if name in row}
    if seen and seen.isdisjoint(fields):
        told = f"{', '.join(fields)}; its fields are {', '.join(sorted(seen)[:20])}"
        raise RecipeError(f"{file}: no row has a field {told}; name others in `fields`, or none for all")


def _rows(file: Path) -> Iterator[Any]:
    """The rows of a file; a text file is one."""
    try:
        if file.suffix.lower() == ".parquet":
            for batch in pq.ParquetFile(files.reading(file)).iter_batches(_BATCH, use_threads=False):
                yield from batch.to_pylist()
        elif file.suffix.lower() == ".jsonl":
            with io.TextIOWrapper(files.opened(file), encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines if line.strip())
        else:
            yield file.read_text("utf-8")
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise RecipeError(f"{file}: not {file.suffix[1:]} in UTF-8 ({error}); mend or remove it") from error


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
