"""Dedupe rules: when two documents or two pictures are copies, and which of them stays. One per file.

A rule is an exchange: *keys* says, shard by shard, what would be equal in a copy; *reduce* sees all rows of
equal keys of the whole corpus and decides. It compares hashes of 128 bits, never texts.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import polars as pl

from lcl_data.exchange import hashes
from lcl_data.frames import Frames
from schemas.recipe import Settings

COPY = ["key", "check"]  # what is equal in copies: the two halves of a 128-bit hash


class Rule(Settings):
    """The base of all rules.

    Rules run in the order of the recipe, and a rule does not see what earlier ones dropped: two rules can
    never drop both copies.
    """

    drops: ClassVar[Literal["documents", "images"]]

    @abstractmethod
    def keys(self, frames: Frames) -> pl.DataFrame:
        """Narrow rows of a batch of documents.

        Returns:
            key, check (UInt64: the two halves of a 128-bit hash of what is compared), document (UInt64),
            item (Int32; null where documents are compared), id (of the document), and what else the rule
            needs. No row: what cannot be compared has no copies.
        """

    @abstractmethod
    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Decisions over rows that share a bucket: the columns of `schemas.decisions`, `similarity` aside
        where equality is asked for; a row per document or image to drop, each one once.
        """


def hashed(rows: pl.DataFrame, compared: pl.Series) -> pl.DataFrame:
    """Rows (document, id, and perhaps item) with the hash of what is compared as key and check."""
    key, check = hashes(compared).T
    item = pl.col("item") if "item" in rows.columns else pl.lit(None, pl.Int32).alias("item")
    hashed = rows.with_columns(pl.Series("key", key), pl.Series("check", check), item)
    return hashed.select(*COPY, "document", "item", "id")


def keep_one(
    rows: pl.DataFrame, keep: Literal["first", "last"] = "first", within: Sequence[str] = ()
) -> pl.DataFrame:
    """Decisions that keep one of each set of copies.

    Args:
        rows: as `hashed` makes them.
        keep: the first in the order of reading, or the last.
        within: columns in which rows must also agree to be copies.
    """
    ordered = rows.sort("document", "item", descending=keep == "last")
    copies = [*COPY, *within]
    kept = [pl.col(name).first().over(copies).alias(new) for name, new in _KEPT.items()]
    decided = ordered.with_columns(kept)
    is_kept = (pl.col("document") == pl.col("kept")) & pl.col("item").eq_missing(pl.col("kept_item"))
    return decided.filter(~is_kept).select("document", "item", "id", *_KEPT.values())


_KEPT = {"document": "kept", "item": "kept_item", "id": "kept_id"}
