"""Cut documents whose text is too short to teach anything or too long to be prose."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class TextLength(Filter):
    """Words (runs of non-space characters) of all text items of a document together.

    The defaults are OBELICS' bounds for whole documents (config_filter_web_documents.yaml: 10..2000 words).
    """

    applies_to: ClassVar[Literal["document"]] = "document"
    min_words: int = Field(10, ge=0, description="documents with fewer words are rejected")
    max_words: int = Field(2000, ge=0, description="documents with more words are rejected")

    def facts(self) -> dict[str, pl.Expr]:
        """The fact words."""
        return {"words": pl.col("text").str.count_matches(r"\S+")}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_short, too_long."""
        words = pl.col("words")
        return {"too_short": words < self.min_words, "too_long": words > self.max_words}
