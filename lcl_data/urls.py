"""Which URLs a corpus points at and how often: an exchange on the hash of the URL.

The answer is in order of the hash, which is the same on every machine and deals the URLs of one host evenly
over the shards of the image store, so that no shard waits for one slow host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lcl_data.engine import Engine
from lcl_data.exchange import buckets_for, exchange, hashes
from lcl_data.stage import Unit, open_documents

_LEAF = "items.list.element.image.url"  # the only column chunk read


@dataclass(frozen=True, slots=True)
class Urls:
    """The distinct URLs of a corpus, on disk.

    Attributes:
        paths: tables with the columns url and references, in order.
        count: URLs in all.
    """

    paths: tuple[Path, ...]
    count: int

    def rows(self, start: int, count: int) -> tuple[list[str], list[int]]:
        """At most `count` URLs from number `start` on, and how many image items point at each."""
        if not self.paths:
            return [], []
        table = pl.scan_parquet(list(self.paths)).slice(start, count).select("url", "references").collect()
        return table["url"].to_list(), table["references"].to_list()


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
    paths = exchange(folder, documents, _keys, _reduce, buckets_for(references), engine)
    return Urls(tuple(paths), sum(pq.read_metadata(path).num_rows for path in paths))


def _keys(unit: Unit) -> pl.DataFrame:
    """The URLs of a document shard, each once, with its references there."""
    with open_documents(unit.payload) as file:
        chunks = [_urls(batch) for batch in file.iter_batches(columns=[_LEAF])]
    urls = pl.Series("url", pa.chunked_array(chunks, pa.string()), dtype=pl.String).drop_nulls()
    counted = urls.value_counts(name="references").sort("url")
    return counted.select(
        pl.Series("key", hashes(counted["url"])[:, 0], dtype=pl.UInt64),
        "url",
        pl.col("references").cast(pl.Int64),
    )


def _urls(batch: pa.RecordBatch) -> pa.Array:
    return pc.struct_field(batch.column(0).flatten(), ["image", "url"])


def _reduce(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("key", "url").agg(pl.col("references").sum())
