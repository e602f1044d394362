"""The scores of tables brought to the pictures and documents they speak of: an exchange on the hash of the
identifier.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from lcl_data import files
from lcl_data.attach import attached
from lcl_data.draft import Draft
from lcl_data.engine import Engine
from lcl_data.exchange import answers_of, buckets_for, exchange, hashes
from lcl_data.filters import score_column
from lcl_data.frames import Frames, read_frames
from lcl_data.scores import IDENTIFIERS, Scores, Table, scan, unreadable
from lcl_data.stage import Unit
from schemas.errors import RecipeError

_PART_ROWS = 250_000  # rows of a Parquet table that are one unit: 16 of them share a group of an exchange
_TYPES = {
    **{"key": pl.UInt64, "check": pl.UInt64, "document": pl.UInt64, "item": pl.Int32, "rank": pl.UInt8},
    **{"name": pl.UInt16, "value": pl.Float64, "place": pl.UInt64},
}
_ROW_BITS = 40  # of a place: number of the table << 40 | row


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of a table; all of them where `rows` is None."""

    number: int
    start: int = 0
    rows: int | None = None


def match(
    folder: Path,
    documents: Sequence[Unit],
    scores: Scores,
    pictures: tuple[Path, ...] | None,
    engine: Engine,
    rows: int,
) -> list[Path]:
    """Ask which scores belong to which document or image item.

    Args:
        folder: scratch of the exchange.
        documents: document shards (payload: their path).
        scores: the tables.
        pictures: answers of `attach`, for tables that name pictures by key or sha256.
        engine: where it runs.
        rows: about how many rows the documents bring.

    Returns:
        The answers for `with_scores`, a row per score found: document, item (null: of the document), name
        (its number), rank (of the identifier), value.

    Raises:
        RecipeError: two rows give one score of one thing different values.
    """
    scores = _at_hand(scores, folder)
    units = [unit for table, _ in enumerate(scores.tables) for unit in _parts(table, scores.tables[table])]
    count = rows * len(scores.tables) + sum(table.rows for table in scores.tables)
    return exchange(
        folder,
        [*documents, *units],
        partial(_keys, scores, pictures),
        partial(_match, scores),
        buckets_for(count),
        engine,
    )


def _at_hand(scores: Scores, folder: Path) -> Scores:
    """The tables where every worker can read any part of them: remote ones are brought to the scratch."""
    return replace(scores, tables=tuple(_brought(table, folder, n) for n, table in enumerate(scores.tables)))


def _brought(table: Table, folder: Path, number: int) -> Table:
    if not files.is_remote(table.path):
        return table
    copy = folder / "tables" / f"{number:03d}-{table.path.name}"
    if not copy.exists():
        files.make(copy.parent)
        with files.at_hand(table.path) as found:
            shutil.move(found, files.temporary(copy))
        files.publish(copy)
    return replace(table, path=copy)


def with_scores(frames: Frames, found: pl.DataFrame, scores: Scores) -> Frames:
    """The frames with a column per score, null where there is none.

    Args:
        frames: documents as read.
        found: the answers for this shard (`exchange.answers_of`).
        scores: whose they are.
    """
    documents, items = frames.documents, frames.items
    best = found.sort("rank").unique(["document", "item", "name"], keep="first", maintain_order=True)
    for number, name in enumerate(scores.names):
        own = best.filter(pl.col("name") == number).select(
            "document", "item", pl.col("value").alias(score_column(name))
        )
        pages = own.filter(pl.col("item").is_null()).drop("item")
        documents = documents.join(pages, on="document", how="left", maintain_order="left")
        items = items.join(own, on=["document", "item"], how="left", maintain_order="left")
    return Frames(documents, items)


def _parts(number: int, table: Table) -> Iterator[Unit]:
    """The units that read a table: bounded parts of a Parquet file, a text file as a whole."""
    if table.path.suffix != ".parquet":
        yield Unit(number, table.path.name, _Part(number))
        return
    for start in range(0, table.rows, _PART_ROWS):
        yield Unit(number, table.path.name, _Part(number, start, _PART_ROWS))


def _keys(scores: Scores, pictures: tuple[Path, ...] | None, unit: Unit) -> pl.DataFrame:
    if isinstance(unit.payload, _Part):
        return pl.concat([pl.DataFrame(schema=_TYPES), *_given(scores, unit.payload)])
    return pl.concat([pl.DataFrame(schema=_TYPES), *_asked(scores, pictures, unit)])


def _given(scores: Scores, part: _Part) -> Iterator[pl.DataFrame]:
    """A row per wanted score of a part of a table."""
    table = scores.tables[part.number]
    numbers = {name: number for number, name in enumerate(scores.names)}
    rows = scan(table.path).slice(part.start, part.rows).with_row_index("row", offset=part.start)
    wanted = rows.select(
        pl.col("row").cast(pl.UInt64),
        pl.col(table.identifier).cast(pl.String).alias("id"),
        pl.col("name").cast(pl.String).replace_strict(numbers, default=None, return_dtype=pl.UInt16),
        pl.col("value").cast(pl.Float64).fill_nan(None),
    ).filter(pl.col("name").is_not_null())
    rank = IDENTIFIERS.index(table.identifier)
    place = pl.lit(part.number << _ROW_BITS, pl.UInt64) + pl.col("row")
    try:
        for batch in wanted.collect_batches(chunk_size=100_000):
            yield _hashed(batch.drop_nulls("id").with_columns(place.alias("place")), rank)
    except pl.exceptions.PolarsError as error:
        raise unreadable(table.path, error) from error


def _asked(scores: Scores, pictures: tuple[Path, ...] | None, unit: Unit) -> Iterator[pl.DataFrame]:
    """A row per identifier, of those that tables use, of each image item and document of a shard."""
    ranks = sorted({IDENTIFIERS.index(table.identifier) for table in scores.tables})
    known = answers_of(pictures, unit.number) if pictures else None
    for read in read_frames(unit):
        frames = read if known is None else attached(read, known, Draft(Path(), unit.number, ""))
        for rank in ranks:
            name = IDENTIFIERS[rank]
            if name == "document_id":
                yield _hashed(frames.documents.select("document", "id"), rank)
            else:
                yield _hashed(frames.images.select("document", "item", id=name).drop_nulls("id"), rank)


def _hashed(rows: pl.DataFrame, rank: int) -> pl.DataFrame:
    """Rows of the exchange: the identifier as a hash, null where the frame has no such column."""
    key, check = hashes(f"{rank}\0{identity}" for identity in rows["id"]).T
    full = rows.with_columns(
        pl.Series("key", key, pl.UInt64), pl.Series("check", check, pl.UInt64), pl.lit(rank).alias("rank")
    )
    return full.select(
        (pl.col(name) if name in full.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in _TYPES.items()
    )


def _match(scores: Scores, rows: pl.DataFrame) -> pl.DataFrame:
    """Each document or image item with the scores of its identifier."""
    of_one = ["key", "check", "name"]
    given = rows.filter(pl.col("place").is_not_null()).sort("place")
    told = given.unique([*of_one, "value"], keep="first", maintain_order=True)
    best = told.unique(of_one, keep="first", maintain_order=True)
    if best.height < told.height:
        _refuse(scores, told)
    asked = rows.filter(pl.col("place").is_null()).select("key", "check", "document", "item", "rank")
    measured = best.filter(pl.col("value").is_not_null()).select(*of_one, "value")
    found = asked.join(measured, on=["key", "check"])
    return found.select("document", "item", "name", "rank", "value")


def _refuse(scores: Scores, told: pl.DataFrame) -> None:
    """Name two rows that contradict each other."""
    twice = told.filter(pl.len().over("key", "check", "name") > 1)
    first = twice.row(0, named=True)
    pair = twice.filter(*(pl.col(column) == first[column] for column in ("key", "check", "name")))
    (one, identity), (other, _) = (_named(scores, place) for place in pair["place"].head(2))
    values = " and ".join("null" if value is None else f"{value:g}" for value in pair["value"].head(2))
    name = scores.names[first["name"]]
    raise RecipeError(
        f"{identity}: has two values of score {name}, {values} ({one}; {other}); leave one row of it"
    )


def _named(scores: Scores, place: int) -> tuple[str, str]:
    """Where a row stands, and what it speaks of."""
    table = scores.tables[place >> _ROW_BITS]
    row = place & ((1 << _ROW_BITS) - 1)
    identity: Any = scan(table.path).select(table.identifier).slice(row, 1).collect().item()
    return f"{table.path} row {row}", f"{table.identifier} {identity}"
