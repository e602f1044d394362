"""Cut documents of very few or very many text items."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class TextCount(Filter):
    """Text items of a document: sentences in MMC4, paragraphs elsewhere.

    The defaults are those of MMC4's core subset (section 3: 4..40 sentences).
    """

    applies_to: ClassVar[Literal["document"]] = "document"
    min: int = Field(4, ge=0, description="documents with fewer texts are rejected")
    max: int | None = Field(40, ge=0, description="documents with more texts are rejected; null: none is")

    def reasons(self) -> dict[str, pl.Expr]:
        """too_few, too_many."""
        reasons = {"too_few": pl.col("texts") < self.min}
        if self.max is not None:
            reasons["too_many"] = pl.col("texts") > self.max
        return reasons
