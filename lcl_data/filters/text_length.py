"""Cut texts that are too short to teach anything or too long to be prose."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter
from lcl_data.wording import words


class TextLength(TextFilter):
    """Words (runs of non-space characters) of all text items of a document together, or of each.

    The defaults are OBELICS' (config_filter_web_documents.yaml: 10..2000 words for documents, 4..1000 for
    paragraphs).
    """

    min_words: int | None = Field(
        None, ge=0, description="texts with fewer words are rejected; if null, 10 for documents, 4 for texts"
    )
    max_words: int | None = Field(
        None,
        ge=0,
        description="texts with more words are rejected; if null, 2000 for documents, 1000 for texts",
    )

    def facts(self) -> dict[str, pl.Expr]:
        """Words."""
        return {"words": words()}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_short, too_long."""
        words = pl.col("words")
        return {
            "too_short": words < self.cutoff(self.min_words, document=10, text=4),
            "too_long": words > self.cutoff(self.max_words, document=2000, text=1000),
        }
