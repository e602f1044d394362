"""Dedupe rules: when two documents, texts or pictures are copies, and which of them stays. One per file.

A rule is an exchange: *keys* says, shard by shard, what would be equal in a copy, in hashes and never in
texts. An `ExactRule` decides over all rows of equal keys of the whole corpus (*reduce*). A `NearRule` looks
for what is alike: copies share one at least of their several keys; *facts* and *similarity* verify every pair
that does; *decide* sees the sets that verified pairs link.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import polars as pl

from lcl_data.exchange import hashes
from lcl_data.frames import Frames
from schemas.recipe import Settings

Kind = Literal["documents", "images", "texts"]
_HOST = r"^[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?:www\.)?([^/?#:]+)"
COPY = ["key", "check"]  # what is equal in copies: the two halves of a 128-bit hash


class Rule(Settings):
    """The base of all rules.

    Rules run in the order of the recipe, and a rule does not see what earlier ones dropped: two rules can
    never drop both copies.
    """

    compares: ClassVar[Kind]
    # The columns that `keys` and `facts` look at, as `read_frames` takes them; all where none is named.
    reads: ClassVar[tuple[str, ...]] = ()

    @property
    def drops(self) -> Kind:
        """What a decision drops; another kind than what is compared only where a rule says so."""
        return self.compares

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str] | None:
        """Of which kind of thing it compares a column that may be unknown; those without are compared with
        nothing, which the stage notes.
        """
        return None

    def notes(self) -> Sequence[str]:
        """What a person should know of files that its settings name."""
        return ()

    @property
    def spread(self) -> int:
        """About how many keys a document, image or text that is compared has."""
        return 1

    def reading(self, images: Path | None) -> Self:
        """The rule with the image store that it may read pictures from; most rules need none.

        Raises:
            RecipeError: it needs one and there is none.
        """
        return self

    @abstractmethod
    def keys(self, frames: Frames) -> pl.DataFrame:
        """Narrow rows of a batch of documents: key (UInt64), document (UInt64), item (Int32; null where
        documents are compared), and what else the rule needs. No row: what cannot be compared has no copies.
        """


class ExactRule(Rule):
    """A rule that looks for equality: `keys` has also check (the other half of a 128-bit hash) and id."""

    @abstractmethod
    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Decisions over rows that share a bucket: columns of `schemas.decisions`, at least those that are
        never null; a row per document, image or text to drop, each one once.
        """


class NearRule(Rule):
    """A rule that looks for likeness: `lcl_data.neighbours` says how it runs.

    Its similarity must not depend on the order of a pair.
    """

    # Whether a copy of a copy is one, however little alike the ends of a chain are; else what is dropped is
    # alike to what stays for it (what is equal to a copy, similarity 1, always is a copy too).
    chains: ClassVar[bool] = True
    facts_bytes: ClassVar[int] = 100  # about how many a row of `facts` takes: buckets are made to fit

    @property
    @abstractmethod
    def least(self) -> float:
        """The similarity (0..1) from which a pair counts as copies."""

    def candidates(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Pairs worth verifying (document, item, other, other_item) among rows of `keys` that share a bucket:
        what shares a key, unless a rule knows better. A pair may come twice, and either way round.
        """
        return sharing(rows)

    @abstractmethod
    def facts(self, frames: Frames) -> pl.DataFrame:
        """What similarity is computed from: document, item, id, and the rule's own columns.

        Asked only of documents that hold a candidate; rows of what is no candidate are dropped.
        """

    @abstractmethod
    def similarity(self, pairs: pl.DataFrame) -> pl.Series:
        """0..1 for each row of `pairs`: the rule's own columns of `facts`, and the same ones named
        `other_<column>`.
        """

    def decide(self, sets: pl.DataFrame) -> pl.DataFrame:
        """Decisions over the copies of the whole corpus: all but the first of each set.

        Args:
            sets: a row per member of a set of two at least, the columns of `schemas.decisions`: its place and
                id, those of the first member of its set in the order of reading (for the first: its own), and
                its similarity to that one; to the nearest other member where the two were not compared.
        """
        is_first = (pl.col("document") == pl.col("kept")) & pl.col("item").eq_missing(pl.col("kept_item"))
        return sets.filter(~is_first)


def plain_text() -> pl.Expr:
    """Column text as texts are compared for equality: Unicode normalised (NFC), each run of white space one
    space, none at the ends.
    """
    # The separators of what is joined before hashing count as white space, so that no text holds one.
    return pl.col("text").str.normalize("NFC").str.replace_all(r"[\s\x1c-\x1f]+", " ").str.strip_chars(" ")


def host() -> pl.Expr:
    """The host of column `url` in lower case, without `www.`, user and port; null where there is none."""
    return pl.col("url").str.to_lowercase().str.extract(_HOST).alias("host")


def hashed(rows: pl.DataFrame, compared: pl.Series) -> pl.DataFrame:
    """Rows (document, id, and perhaps item) with the hash of what is compared as key and check."""
    key, check = hashes(compared).T
    item = pl.col("item") if "item" in rows.columns else pl.lit(None, pl.Int32).alias("item")
    hashed = rows.with_columns(pl.Series("key", key), pl.Series("check", check), item)
    return hashed.select(*COPY, "document", "item", "id")


def keep_one(
    rows: pl.DataFrame,
    keep: Literal["first", "last"] = "first",
    within: Sequence[str] = (),
    order: Sequence[str] = (),
) -> pl.DataFrame:
    """Decisions that keep one of each set of copies.

    Args:
        rows: as `hashed` makes them.
        keep: the first in the order of reading, or the last.
        within: columns in which rows must also agree to be copies.
        order: columns without nulls that say what is first, before the order of reading does.
    """
    ordered = rows.sort(*order, "document", "item", descending=keep == "last")
    copies = [*COPY, *within]
    kept = [pl.col(name).first().over(copies).alias(new) for name, new in _KEPT.items()]
    decided = ordered.with_columns(kept)
    is_kept = (pl.col("document") == pl.col("kept")) & pl.col("item").eq_missing(pl.col("kept_item"))
    return decided.filter(~is_kept).select("document", "item", "id", *_KEPT.values())


# All pairs of a group of this size are candidates; of a larger one each place with the first and with its
# predecessor, so that a key which everybody shares does not cost the square of everybody.
_ALL_PAIRS = 8
_PLACE = ["document", "item"]
_OTHER = ["other", "other_item"]


def sharing(rows: pl.DataFrame) -> pl.DataFrame:
    """Pairs of places that share a key."""
    # Most keys have one place, and are not worth sorting.
    places = rows.filter(pl.col("key").is_duplicated()).select("key", *_PLACE).unique().sort("key", *_PLACE)
    size, rank = pl.len().over("key"), pl.int_range(pl.len()).over("key")
    shared = places.with_columns(size=size, rank=rank).filter(pl.col("size") > 1)
    renamed = list(zip(_PLACE, _OTHER, strict=True))
    first = [pl.col(name).first().over("key").alias(other) for name, other in renamed]
    found = [shared.filter((pl.col("size") > _ALL_PAIRS) & (pl.col("rank") > 1)).with_columns(first)]
    for gap in range(1, _ALL_PAIRS):
        before = [pl.col(name).shift(gap).alias(other) for name, other in renamed]
        small = pl.col("size") <= _ALL_PAIRS if gap > 1 else pl.lit(True)
        found.append(shared.with_columns(before).filter(small & (pl.col("rank") >= gap)))
    return pl.concat([part.select(*_PLACE, *_OTHER) for part in found])


_KEPT = {"document": "kept", "item": "kept_item", "id": "kept_id"}
