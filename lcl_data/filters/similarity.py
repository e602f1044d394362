"""Cut pictures that do not fit their text, by the score of the pair that the source brought."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class Similarity(Filter):
    """Score of picture and anchored text (CLIP ViT-L/14 cosine in MMC4).

    The default is that of LCL's own training data (0.24, its MMC4 loader); MMC4 itself floors at 0.15, its
    core subset asks for 0.25. An image without a score, or with one that is no number, is `unmeasured`.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    min: float = Field(0.24, ge=-1, le=1, description="images with a lower similarity are rejected")

    def reasons(self) -> dict[str, pl.Expr]:
        """too_low."""
        # The column is float32: without the cast a score of 0.24 would fall below the double 0.24.
        return {"too_low": pl.col("similarity").fill_nan(None) < pl.lit(self.min, pl.Float32)}
