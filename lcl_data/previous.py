"""What a store has fetched before the list of URLs changed: taken over instead of fetched again.

A document more, a filter put before the download, a torn shard mended: each changes which URL lies in which
shard. The shards of the old list are set aside below the store, an exchange on the hash of the URL finds what
the new list can use of them, and they are removed when the new list is whole.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lcl_data import exchange, files, store
from lcl_data.engine import Engine
from lcl_data.stage import Unit
from lcl_data.store import Row
from lcl_data.urls import Urls
from schemas.errors import ShardError
from schemas.images import SUCCESS

FOLDER = "previous"  # below the store
_KEY = ["key", "check"]


@dataclass(frozen=True, slots=True)
class Previous:
    """Where the outcomes of an earlier list lie: `answers` of the exchange, which name `folders`."""

    folders: tuple[Path, ...] = ()
    answers: tuple[Path, ...] = ()

    def outcomes(self, shard: int) -> Iterator[tuple[int, Row, bytes]]:
        """(number of the URL in its shard, row, encoded picture) of what is known of a new shard's URLs."""
        if not self.answers:
            return
        found = exchange.answers_of(self.answers, shard).with_columns(pl.col("document") - (shard << 32))
        for (folder, table), rows in found.group_by("folder", "table", maintain_order=True):
            places = dict(rows.select("row", "document").iter_rows())
            yield from outcomes(self.folders[folder], table, places)


def outcomes(folder: Path, shard: int, places: dict[int, int]) -> Iterator[tuple[int, Row, bytes]]:
    """(place, row, encoded picture) of rows of a shard's table; `places` says which rows, and their place.

    A picture that is not what its row says is left out: a run killed while it replaced the shard leaves the
    table of one list beside the tar of another.
    """
    table = store.read_rows(folder, shard)
    wanted = {table[number]["key"]: (place, table[number]) for number, place in places.items()}
    stored = []
    for place, row in wanted.values():
        if row["status"] == SUCCESS:
            stored.append(row)
        else:
            yield place, row, b""
    with suppress(ShardError):
        for key, content in store.contents(folder / f"{shard:05d}.tar", stored):
            place, row = wanted[key]
            if hashlib.sha256(content).hexdigest() == row["sha256"]:
                yield place, row, content


def set_aside(out: Path, made_by: str, is_current: Sequence[bool]) -> None:
    """Move the shards of another list out of the way.

    Args:
        out: the store.
        made_by: the digest of the settings; what was made by others cannot be used and stays, to be replaced.
        is_current: for each shard of the list to be: whether it is finished and stays.
    """
    old = [path for path in store.table_paths(out) if not _is_current(path, is_current)]
    usable = [path for path in _made(old, made_by) if path.with_suffix(".tar").exists()]
    if not usable:
        return
    folder = out / FOLDER / f"{len(_folders(out)):05d}"
    files.make(folder)
    for path in usable:
        path.with_suffix(".tar").rename(folder / f"{path.stem}.tar")
        path.rename(folder / path.name)


def previous(out: Path, made_by: str, urls: Urls, size: int, engine: Engine) -> Previous:
    """Find what the shards set aside, now or by a run that was killed, know of the URLs of a list.

    Args:
        out: the store.
        made_by: the digest of the settings.
        urls: the list to be.
        size: URLs per shard.
        engine: where it runs.
    """
    folders = _folders(out)
    tables = [
        (number, path)
        for number, folder in enumerate(folders)
        for path in _made(store.table_paths(folder), made_by)
    ]
    if not tables:
        return Previous()
    names = [path.relative_to(out).as_posix() for _, path in tables]
    scratch = exchange.scratch(out, FOLDER, files.digest([urls.digest, made_by, names]))
    starts = range(0, urls.count, size)
    units = [Unit(n, f"shard {n}", (urls, start, size)) for n, start in enumerate(starts)]
    units += [Unit(n, str(path), (folder, path)) for n, (folder, path) in enumerate(tables, len(units))]
    rows = urls.count + sum(pq.read_metadata(files.reading(path)).num_rows for _, path in tables)
    answers = exchange.exchange(
        scratch, units, partial(_keys, len(starts)), _match, exchange.buckets_for(rows), engine
    )
    return Previous(tuple(folders), tuple(answers))


def remove(out: Path) -> None:
    """Remove what was set aside."""
    files.remove(out / FOLDER)


def _made(tables: list[Path], made_by: str) -> list[Path]:
    """The tables that these settings made; a torn one is nobody's."""
    found = []
    for path in tables:
        with suppress(OSError, pa.ArrowInvalid):
            if store.made_by(path) == made_by:
                found.append(path)
    return found


def _folders(out: Path) -> list[Path]:
    return sorted((out / FOLDER).glob("[0-9]*"))


def _is_current(table: Path, is_current: Sequence[bool]) -> bool:
    number = int(table.stem)
    return number < len(is_current) and is_current[number]


def _keys(shards: int, unit: Unit) -> pl.DataFrame:
    """Rows (key, check, document, folder, table, row): of the list the place, of a table what it holds.

    A picture that a source carries is not asked for: its URL is a name in a file of this machine, and what
    bears that name may be another picture by now.
    """
    if unit.number < shards:
        urls, start, size = unit.payload
        listed = [(n, row.url) for n, row in enumerate(urls.rows(start, size)) if row.carrier is None]
        names = [url for _, url in listed]
        place = pl.Series([n for n, _ in listed], dtype=pl.UInt64) + (unit.number << 32)
        nothing = [pl.lit(None, pl.Int32).alias(name) for name in ("folder", "table", "row")]
        return _hashed(names).select(*_KEY, place.alias("document"), *nothing)
    folder, path = unit.payload
    names = pq.read_table(files.reading(path), columns=["url"])["url"].to_pylist()
    where = {"folder": folder, "table": int(path.stem)}
    return _hashed(names).select(
        *_KEY,
        pl.lit(None, pl.UInt64).alias("document"),
        *(pl.lit(value, pl.Int32).alias(name) for name, value in where.items()),
        pl.int_range(pl.len(), dtype=pl.Int32).alias("row"),
    )


def _hashed(names: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        dict(zip(_KEY, exchange.hashes(names).T, strict=True)), schema=dict.fromkeys(_KEY, pl.UInt64)
    )


def _match(rows: pl.DataFrame) -> pl.DataFrame:
    """What is known of each URL of the list: the latest folder's word where several have one."""
    listed = rows.filter(pl.col("document").is_not_null()).select(*_KEY, "document")
    known = rows.filter(pl.col("document").is_null()).drop("document")
    latest = known.sort("folder", "table", "row").unique(_KEY, keep="last", maintain_order=True)
    return listed.join(latest, on=_KEY).select("document", "folder", "table", "row")
