"""The same page, crawled several times: only one visit stays."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.crawl_dates import DATES, crawled
from lcl_data.dedupe import ExactRule, hashed, keep_one
from lcl_data.frames import Frames


class SameUrl(ExactRule):
    """Documents with the same page URL, character by character; one without a URL has no copies.

    OBELICS keeps the most recent crawl (step 10). When a page was crawled stands in its meta, in the first of
    `dates` that holds an ISO 8601 date or 14 digits in a row (YYYYMMDDhhmmss, as in Common Crawl's file
    names); zones do not count. A document without a date is older than any that has one. Between equal or no
    dates the order of reading decides: dumps are read in the order of their names.
    """

    compares: ClassVar[Literal["documents"]] = "documents"
    keep: Literal["last", "first"] = Field("last", description="which one stays, by date, then as read")
    dates: tuple[str, ...] = Field(
        DATES,
        description="keys of a document's meta that may say when it was crawled; a dot enters an object",
    )

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str]:
        """The address of the page."""
        return "documents", "url"

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per document that has a URL."""
        rows = frames.documents.filter(pl.col("url").str.len_bytes() > 0).with_columns(crawled(self.dates))
        return hashed(rows.select("document", "id"), rows["url"]).with_columns(rows["date"])

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All but one document of each URL."""
        return keep_one(rows, self.keep, order=["date"])
