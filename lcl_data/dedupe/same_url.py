"""The same page, crawled several times: only one visit stays."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.dedupe import ExactRule, hashed, keep_one
from lcl_data.frames import Frames


class SameUrl(ExactRule):
    """Documents with the same page URL, character by character; one without a URL has no copies.

    OBELICS keeps the most recent crawl (step 10); dumps are read in the order of their names, so the last one
    read is the latest.
    """

    compares: ClassVar[Literal["documents"]] = "documents"
    keep: Literal["last", "first"] = Field("last", description="which one stays, in the order of reading")

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per document that has a URL."""
        rows = frames.documents.filter(pl.col("url").str.len_bytes() > 0)
        return hashed(rows.select("document", "id"), rows["url"])

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All but one document of each URL."""
        return keep_one(rows, self.keep)
