"""The same page, crawled several times: only one visit stays."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.dedupe import ExactRule, hashed, keep_one
from lcl_data.frames import Frames

# [0-9]: the \d of Rust takes the digits of any script, which are no number to polars.
_STAMP = r"(?:^|[^0-9])([0-9]{14})(?:[^0-9]|$)"  # as in the names of Common Crawl's files
_ISO = (
    r"^\s*([0-9]{4})-?(0[1-9]|1[0-2])-?(0[1-9]|[12][0-9]|3[01])"
    r"(?:[T ]?([0-9]{2}):?([0-9]{2}):?([0-9]{2}))?(?:[^0-9]|$)"  # seconds since 1970 are no date
)


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
        ("date", "timestamp", "WARC-Date", "general_metadata.warc_filename"),
        description="keys of a document's meta that may say when it was crawled; a dot enters an object",
    )

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str]:
        """The address of the page."""
        return "documents", "url"

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per document that has a URL."""
        rows = frames.documents.filter(pl.col("url").str.len_bytes() > 0).with_columns(self._date())
        return hashed(rows.select("document", "id"), rows["url"]).with_columns(rows["date"])

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All but one document of each URL."""
        return keep_one(rows, self.keep, order=["date"])

    def _date(self) -> pl.Expr:
        """YYYYMMDDhhmmss as a number; 0 where no date is known."""
        paths = ["$" + "".join(f"['{part}']" for part in name.split(".")) for name in self.dates]
        values = [pl.col("meta").str.json_path_match(path) for path in paths]
        iso = [pl.concat_str(_parts(value)) for value in values]
        stamps = [value.str.extract(_STAMP) for value in values]
        found = pl.coalesce(*(each for pair in zip(iso, stamps, strict=True) for each in pair), pl.lit("0"))
        return found.cast(pl.UInt64).alias("date")


def _parts(value: pl.Expr) -> list[pl.Expr]:
    """Year, month and day of an ISO date, each null where it is none; hour, minute and second."""
    found = [value.str.extract(_ISO, group) for group in range(1, 7)]
    return [*found[:3], *(part.fill_null("00") for part in found[3:])]
