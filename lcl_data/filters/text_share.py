"""Cut documents that are nearly all pictures, or nearly all text."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class TextShare(Filter):
    """Text items as a share of all items of a document.

    No paper publishes a cutoff for it: without a setting nothing is cut, and `lcl filter --report` shows how
    the share is spread. A document without any item has a share of 0.
    """

    applies_to: ClassVar[Literal["document"]] = "document"
    min: float = Field(0.0, ge=0, le=1, description="documents with a lower share are rejected")
    max: float = Field(1.0, ge=0, le=1, description="documents with a higher share are rejected")

    def facts(self) -> dict[str, pl.Expr]:
        """Text share."""
        return {"text_share": pl.col("texts") / (pl.col("texts") + pl.col("images")).clip(1)}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_low, too_high."""
        share = pl.col("text_share")
        return {"too_low": share < self.min, "too_high": share > self.max}
