"""Pages that say nearly the same: reprints, mirrors, a page crawled again after an edit."""

from array import array
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from lcl_data.dedupe import NearRule
from lcl_data.frames import TEXTS, Frames
from lcl_data.shingles import Hashed, Hashes, joined, mixed, ngrams, words

_SEED = 1  # of the permutations: one for ever, so that equal texts have equal bands everywhere
_SIGNED = 100  # sets at a time: rensa hands out Python numbers, which should not leave the cache


class NearDocument(NearRule):
    """Documents whose sets of word n-grams have at least the Jaccard similarity `threshold`; of each set of
    copies the first one read stays.

    Candidates share one of `bands` bands of `rows` MinHash values each; every candidate pair is then measured
    exactly, on the whole sets, so that bands decide what is found and never what is dropped. A pair of
    similarity s is found with probability 1 - (1 - s^rows)^bands: with the defaults 95 % at 0.7, 99.9 % at
    0.8 (FineWeb's 14 bands of 8: 56 % and 92 %). n-grams of 5 words are FineWeb's and OBELICS'; the threshold
    is Data-Juicer's (OmniCorpus has 0.8): a page of 250 words with 8 of them replaced has 0.72.

    Words are compared in lower case, without punctuation, across text items; of scripts without spaces each
    character is one. Pictures are not compared. A document of fewer than `ngram` words has no near copies:
    what is so short is no evidence.
    """

    compares: ClassVar[Literal["documents"]] = "documents"
    reads = ("id", TEXTS)
    facts_bytes: ClassVar[int] = 8000  # n-grams of 1,000 words, and as many again in the join
    threshold: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity from which documents are copies"
    )
    ngram: int = Field(5, ge=1, le=64, description="words of an n-gram")
    bands: int = Field(24, ge=1, le=256, description="bands: more find more pairs below the threshold")
    rows: int = Field(6, ge=1, le=64, description="MinHash values of a band: more find fewer")

    @property
    def spread(self) -> int:
        """A key for each band."""
        return self.bands

    @property
    def least(self) -> float:
        """The threshold."""
        return self.threshold

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per band of each document that has an n-gram."""
        shingles, places = self._shingles(frames)
        bands = self._bands(shingles)
        return pl.DataFrame({"key": bands.ravel(), "document": np.repeat(places, self.bands)}).with_columns(
            item=pl.lit(None, pl.Int32)
        )

    def facts(self, frames: Frames) -> pl.DataFrame:
        """The set of n-grams of each document, as 32-bit hashes."""
        shingles, places = self._shingles(frames)
        rows = pl.DataFrame(
            {"document": np.repeat(places, shingles.counts), "shingle": shingles.values >> 32}
        )
        sets = rows.group_by("document").agg(pl.col("shingle").cast(pl.UInt32).unique())
        known = frames.documents.select("document", pl.lit(None, pl.Int32).alias("item"), "id")
        return known.join(sets, on="document", maintain_order="left")

    def similarity(self, pairs: pl.DataFrame) -> pl.Series:
        """Jaccard similarity of the sets."""
        shared = pl.col("shingle").list.set_intersection("other_shingle").list.len()
        either = pl.col("shingle").list.len() + pl.col("other_shingle").list.len() - shared
        return pairs.select(shared / either).to_series()

    def _shingles(self, frames: Frames) -> tuple[Hashed, NDArray[np.uint64]]:
        """The n-grams of the documents that have one, and the numbers of those documents."""
        texts = frames.texts
        places = frames.documents["document"].to_numpy()
        ends = texts["document"].search_sorted(frames.documents["document"], side="right").to_numpy()
        shingles = ngrams(joined(words(texts["text"]), ends), self.ngram)
        compared = shingles.counts > 0
        return Hashed(shingles.values, shingles.ends[compared]), places[compared]

    def _bands(self, shingles: Hashed) -> NDArray[np.uint64]:
        """The hash of each band of each set: shape [sets, bands]."""
        offsets = np.concatenate([[0], shingles.ends]).astype(np.uint64)
        signed = [
            _signed(shingles.values, offsets[start : start + _SIGNED + 1], self.bands * self.rows)
            for start in range(0, len(shingles.ends), _SIGNED)
        ]
        values = np.frombuffer(b"".join(signed), np.uint32).reshape(-1, self.bands, self.rows)
        hashes = np.broadcast_to(np.arange(self.bands, dtype=np.uint64), values.shape[:2])
        for row in range(self.rows):
            hashes = mixed(hashes ^ values[:, :, row])
        return hashes


def _signed(values: Hashes, offsets: Hashes, count: int) -> bytes:
    """`count` MinHash values of 32 bits of each set, values[offsets[i]:offsets[i + 1]]."""
    from rensa import RMinHash

    first, last = int(offsets[0]), int(offsets[-1])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        values[first:last], offsets - offsets[0], num_perm=count, seed=_SEED
    )
    return b"".join(array("I", row) for row in matrix.to_rows())
