"""Cut pictures that are too small to show anything (icons, spacers) or larger than any honest photograph."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageSize(Filter):
    """Sides of the original picture in pixels.

    The defaults are those of MMC4 (section 3: shorter side below 150 dropped) and OBELICS (sides of
    150..20,000).
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    min_side_px: int = Field(150, ge=0, description="pictures whose shorter side is below this are rejected")
    max_side_px: int = Field(20_000, ge=1, description="pictures whose longer side is above it are rejected")

    def reasons(self) -> dict[str, pl.Expr]:
        """too_small, too_large."""
        sides = (pl.col("width"), pl.col("height"))
        too_small = pl.any_horizontal(side < self.min_side_px for side in sides)
        too_large = pl.any_horizontal(side > self.max_side_px for side in sides)
        return {"too_small": too_small, "too_large": too_large}
