"""Which URLs a corpus points at, how often, and which of them a source carries: an exchange on the hash of
the URL.

The answer is in order of the hash, which is the same on every machine and deals the URLs of one host evenly
over the shards of the image store, so that no shard waits for one slow host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lcl_data import files
from lcl_data.engine import Engine
from lcl_data.exchange import buckets_for, exchange, hashes
from lcl_data.stage import Unit, open_documents

_LEAVES = ["items.list.element.image.url", "items.list.element.image.carrier"]  # the only column chunks read


class Url(NamedTuple):
    """A distinct URL, the number of image items that point at it, and where a source carries its bytes."""

    url: str
    references: int
    carrier: str | None = None


@dataclass(frozen=True, slots=True)
class Urls:
    """The distinct URLs of a corpus, on disk.

    Attributes:
        paths: tables with the columns of `Url`, in order.
        count: URLs in all.
    """

    paths: tuple[Path, ...]
    count: int

    @property
    def digest(self) -> str:
        """Of the whole list, whatever documents it came from."""
        return files.digest([files.sha256(path) for path in self.paths])

    @property
    def are_carried(self) -> bool:
        """Whether a source carries any of them."""
        carried = pl.scan_parquet(list(self.paths)).select(pl.col("carrier").is_not_null().any())
        return bool(self.paths) and bool(carried.collect().item())

    def rows(self, start: int, count: int) -> list[Url]:
        """At most `count` URLs from number `start` on."""
        if not self.paths:
            return []
        table = pl.scan_parquet(list(self.paths)).slice(start, count).select(Url._fields).collect()
        return [Url(*row) for row in table.iter_rows()]


def distinct_urls(folder: Path, documents: Sequence[Unit], references: int, engine: Engine) -> Urls:
    """Find the distinct URLs of all image items.

    Args:
        folder: scratch of the exchange.
        documents: document shards (payload: their path).
        references: about how many image items they hold.
        engine: where it runs.

    Raises:
        ShardError: a document shard is torn.
    """
    # A power of two: a corpus that grows then halves the buckets, and neighbours in the list stay neighbours,
    # so that a new shard takes over from a few earlier ones and not from all.
    buckets = 1 << (buckets_for(references) - 1).bit_length()
    paths = exchange(folder, documents, _keys, _reduce, buckets, engine)
    return Urls(tuple(paths), sum(pq.read_metadata(path).num_rows for path in paths))


def _keys(unit: Unit) -> pl.DataFrame:
    """The URLs of a document shard, each once, with its references there."""
    with open_documents(unit.payload) as file:
        pictures = [_pictures(batch) for batch in file.iter_batches(columns=_LEAVES, use_threads=False)]
    empty = pl.DataFrame(schema={"url": pl.String, "carrier": pl.String})
    rows = pl.concat([empty, *pictures]).drop_nulls("url").with_columns(references=pl.lit(1, pl.Int64))
    counted = _counted(rows, ["url"]).sort("url")
    return counted.select(pl.Series("key", hashes(counted["url"])[:, 0], dtype=pl.UInt64), *Url._fields)


def _pictures(batch: pa.RecordBatch) -> pl.DataFrame:
    images = pc.struct_field(batch.column(0).flatten(), "image")
    names = [field.name for field in images.type]  # a shard of an earlier LCL has no carriers
    nothing = pa.nulls(len(images), pa.string())
    columns = {
        name: pc.struct_field(images, name) if name in names else nothing for name in ("url", "carrier")
    }
    return pl.DataFrame(columns)


def _counted(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """References added up; of several carriers of one URL always the same one."""
    return rows.group_by(by).agg(pl.col("references").sum(), pl.col("carrier").min())


def _reduce(rows: pl.DataFrame) -> pl.DataFrame:
    return _counted(rows, ["key", "url"])
