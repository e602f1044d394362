"""When a page was crawled, as its meta says it."""

from collections.abc import Sequence

import polars as pl

# Keys of a document's meta that sources write; a dot enters an object.
DATES = ("date", "timestamp", "WARC-Date", "general_metadata.warc_filename")
# [0-9]: the \d of Rust takes the digits of any script, which are no number to polars.
_STAMP = r"(?:^|[^0-9])([0-9]{14})(?:[^0-9]|$)"  # as in the names of Common Crawl's files
_ISO = (
    r"^\s*([0-9]{4})-?(0[1-9]|1[0-2])-?(0[1-9]|[12][0-9]|3[01])"
    r"(?:[T ]?([0-9]{2}):?([0-9]{2}):?([0-9]{2}))?(?:[^0-9]|$)"  # seconds since 1970 are no date
)


def crawled(dates: Sequence[str]) -> pl.Expr:
    """Column date of documents: YYYYMMDDhhmmss as a number, by the first of the keys of `meta` that holds an
    ISO 8601 date or 14 digits in a row; 0 where no date is known.
    """
    paths = ["$" + "".join(f"['{part}']" for part in name.split(".")) for name in dates]
    values = [pl.col("meta").str.json_path_match(path) for path in paths]
    iso = [pl.concat_str(_parts(value)) for value in values]
    stamps = [value.str.extract(_STAMP) for value in values]
    found = pl.coalesce(*(each for pair in zip(iso, stamps, strict=True) for each in pair), pl.lit("0"))
    return found.cast(pl.UInt64).alias("date")


def _parts(value: pl.Expr) -> list[pl.Expr]:
    """Year, month and day of an ISO date, each null where it is none; hour, minute and second."""
    found = [value.str.extract(_ISO, group) for group in range(1, 7)]
    return [*found[:3], *(part.fill_null("00") for part in found[3:])]
