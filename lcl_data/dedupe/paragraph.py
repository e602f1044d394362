"""Texts that a site repeats from page to page: cookie notes, calls to subscribe, licence lines."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.dedupe import COPY, ExactRule, hashed, host, plain_text
from lcl_data.frames import TEXTS, Frames


class Paragraph(ExactRule):
    """Text items that stand, white space aside, in `min_documents` documents of one host or more: all go.

    OBELICS drops everywhere what occurs three times across a domain (step 11; about 15 % of its text). Texts
    are compared whole: one that joins several paragraphs is a copy only if all of them are repeated together.
    A text that one page repeats counts once; a document without a URL has no host, and its texts stay. An
    image whose anchor is dropped stays where it stands.
    """

    compares: ClassVar[Literal["texts"]] = "texts"
    reads = ("id", "url", TEXTS)
    min_documents: int = Field(3, ge=2, description="documents of one host from which on a text is repeated")

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str]:
        """The address of the page."""
        return "documents", "url"

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per text of a document with a host: the hash of host and text."""
        hosts = frames.documents.select("document", "id", host()).drop_nulls("host")
        texts = frames.texts.select("document", "item", plain_text()).filter(pl.col("text") != "")
        rows = texts.join(hosts, on="document", maintain_order="left")
        compared = rows.select(pl.concat_str("host", "text", separator="\x1f")).to_series()
        return hashed(rows.select("document", "item", "id"), compared)

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Every occurrence of what is repeated."""
        documents = pl.col("document").n_unique().over(COPY)
        return rows.filter(documents >= self.min_documents).select("document", "item", "id")
