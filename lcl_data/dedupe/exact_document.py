"""The same text with the same pictures: one copy is enough (1-2 % of MMC4, its issue 10)."""

from typing import ClassVar, Literal

import polars as pl

from lcl_data.dedupe import ExactRule, hashed, keep_one, plain_text
from lcl_data.frames import Frames


class ExactDocument(ExactRule):
    """Documents with equal texts in order, and equal pictures in any order; the first one read stays.

    Texts are compared after Unicode normalisation (NFC) and with every run of white space as one space;
    pictures by the hash of their stored bytes where it is known, else by URL. Where a picture stands does not
    count: MMC4's matching puts the pictures of two copies of a page at different sentences.
    """

    compares: ClassVar[Literal["documents"]] = "documents"

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per document: the hash of its items."""
        picture = pl.coalesce("sha256", pl.col("url").str.replace_all(r"[\x1c-\x1f]", " "))
        texts = plain_text().filter(~pl.col("is_image")).str.join("\x1e")
        pictures = picture.filter(pl.col("is_image")).sort().str.join("\x1e")
        contents = frames.items.group_by("document").agg((texts + "\x1f" + pictures).alias("content"))
        rows = frames.documents.join(contents, on="document", how="left", maintain_order="left")
        return hashed(rows.select("document", "id"), rows["content"].fill_null(""))

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All but the first of each set of copies."""
        return keep_one(rows)
