"""Cut pictures that show nothing: one colour, a faint gradient, a placeholder with a few words on it."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageUniform(Filter):
    """How even the stored picture is, by its grey levels: two colours of equal brightness look alike to it.

    No published pipeline states such a rule (they drop blanks by the size of the file). The defaults keep all
    but one of 8,949 pictures of textbooks, moons on black and bare axes among them (benchmarks/README.md).
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    max_plain_share: float = Field(
        0.98,
        ge=0,
        le=1,
        description="pictures with a greater share of pixels within 17 grey levels are rejected",
    )
    min_contrast: float = Field(
        5.0,
        ge=0,
        description="pictures with a smaller standard deviation (of 0..255 grey levels) are rejected",
    )

    def reasons(self) -> dict[str, pl.Expr]:
        """plain, faint."""
        return {
            "plain": pl.col("pixel_plain_share") > self.max_plain_share,
            "faint": pl.col("pixel_contrast") < self.min_contrast,
        }
