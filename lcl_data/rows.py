"""Rows of foreign files, one at a time: Parquet by small batches of a row group, JSON by the line.

A row that cannot be handed over is an error as a value; only a file that is torn as a whole raises.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lcl_data import files
from lcl_data.archives import Packed, lines
from lcl_data.sources import parse
from schemas.errors import ShardError, SourceError

_BUFFER_NBYTES = 1 << 20
Fields = dict[str, Any] | SourceError


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a foreign file, so that a large file becomes several shards.

    Attributes:
        path: of the file.
        start: first row of a Parquet file, first byte of a file of lines.
        stop: the first one after the part; None for all up to the end.
    """

    path: Path
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One upstream row.

    Attributes:
        place: of the row within its file, for the rejects.
        nbytes: it takes, about.
        fields: by name, or why there are none.
    """

    place: str
    nbytes: int
    fields: Fields


def parquet_count(path: Path) -> int:
    """How many rows a Parquet file holds; 0 if it is torn, which whoever reads it is told."""
    try:
        return int(pq.read_metadata(files.reading(path)).num_rows)
    except (pa.ArrowException, EOFError, OSError):
        return 0


def parquet_rows(part: Path | Part, columns: frozenset[str], batch_rows: int) -> Iterator[Found]:
    """Every row of a Parquet file, or of a part of it; memory is that of a batch.

    Args:
        part: the file.
        columns: it must have, besides which it may have others.
        batch_rows: decoded at a time.

    Raises:
        ShardError: the file is torn, no Parquet, lacks one of the columns, or has two of one name.
    """
    part = part if isinstance(part, Part) else Part(part)
    path = part.path
    try:
        # By default Arrow reads ahead and keeps what it has read, in the end the whole file; with a buffer it
        # reads even a row group by pages.
        with pq.ParquetFile(files.reading(path), pre_buffer=False, buffer_size=_BUFFER_NBYTES) as file:
            once_each(file.schema_arrow.names, path, "give its columns names of their own")
            if missing := columns - set(file.schema_arrow.names):
                raise ShardError(
                    f"{path}: no column {', '.join(sorted(missing))}; is it a file of this format?"
                )
            for place, (fields, nbytes) in enumerate(_batched(file, batch_rows, part), start=part.start):
                yield Found(f":{place}", nbytes, fields)
    except (pa.ArrowException, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's fault, not the file's
        raise ShardError(
            f"{path}: torn or not Parquet ({error}); download it again and repeat the command"
        ) from error


def once_each(names: Sequence[str], path: Path, remedy: str) -> None:
    """Refuse a table with two columns of one name: a row by name would lose one of them.

    Raises:
        ShardError: naming them.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ShardError(f"{path}: several columns are called {', '.join(twice)}; {remedy}")


def json_rows(packed: Packed, max_line_nbytes: int) -> Iterator[Found]:
    """Every line of a file of JSON lines, plain or packed.

    Raises:
        ShardError: the file is torn.
    """
    for member, number, line in lines(packed, max_line_nbytes):
        place = f"{f'!{member}' if member else ''}:{number}"
        yield Found(place, len(line or b""), json_fields(line, max_line_nbytes))


def json_fields(line: bytes | None, max_nbytes: int) -> Fields:
    """The fields of a JSON object, or the reason that there are none; `line` is None if it was too long."""
    if line is None:
        return SourceError("line_too_long", f"over {max_nbytes} bytes")
    try:
        fields = parse(line.removeprefix(b"\xef\xbb\xbf"), "line")
    except SourceError as error:
        return error
    return fields if isinstance(fields, dict) else SourceError("not_an_object", type(fields).__name__)


def _batched(file: pq.ParquetFile, batch_rows: int, part: Part) -> Iterator[tuple[Fields, int]]:
    for batch in _batches(file, batch_rows, part):
        nbytes = batch.nbytes // max(1, batch.num_rows)
        yield from ((fields, nbytes) for fields in _decoded(batch))


def _batches(file: pq.ParquetFile, batch_rows: int, part: Part) -> Iterator[pa.RecordBatch]:
    """The rows of a part, of the row groups that hold them."""
    sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    stop = sum(sizes) if part.stop is None else part.stop
    begins = list(accumulate(sizes, initial=0))
    groups = [
        index for index, size in enumerate(sizes)
        if begins[index] < stop and begins[index] + size > part.start
    ]  # fmt: skip
    row = begins[groups[0]] if groups else 0
    # Each thread keeps memory of its own: the peak of a group of 44 MB is 286 MB with them, 212 without.
    for batch in file.iter_batches(batch_rows, row_groups=groups, use_threads=False):
        inside = batch.slice(max(0, part.start - row), max(0, stop - max(row, part.start)))
        row += batch.num_rows
        if inside.num_rows:
            yield inside


def _decoded(batch: pa.RecordBatch) -> list[Fields]:
    try:
        rows: list[Fields] = batch.to_pylist()
        return rows
    except (ValueError, OverflowError) as error:  # a string that is not UTF-8, a date unknown to Python
        if batch.num_rows == 1:
            return [SourceError("broken_value", str(error))]
    return [row for index in range(batch.num_rows) for row in _decoded(batch.slice(index, 1))]
