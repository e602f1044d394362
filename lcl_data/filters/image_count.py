"""Cut documents that hold no picture, or a gallery of them."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageCount(Filter):
    """Image items of a document that the filters before left.

    The defaults are those of OBELICS (1..30 images); MMC4's core subset has 2..15.
    """

    applies_to: ClassVar[Literal["document"]] = "document"
    min: int = Field(1, ge=0, description="documents with fewer images are rejected")
    max: int | None = Field(30, ge=0, description="documents with more images are rejected; null: none is")

    def reasons(self) -> dict[str, pl.Expr]:
        """too_few, too_many."""
        reasons = {"too_few": pl.col("images") < self.min}
        if self.max is not None:
            reasons["too_many"] = pl.col("images") > self.max
        return reasons
