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
    max_side_px: int | None = Field(
        20_000, ge=1, description="pictures whose longer side is above it are rejected; null: none is"
    )

    def facts(self) -> dict[str, pl.Expr]:
        """shorter_side_px, longer_side_px; of one known side alone they are that side."""
        sides = ("width", "height")
        return {"shorter_side_px": pl.min_horizontal(sides), "longer_side_px": pl.max_horizontal(sides)}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_small, too_large."""
        too_small = pl.col("shorter_side_px") < self.min_side_px
        # One known side can condemn a picture, but not acquit it.
        both = pl.col("width").is_not_null() & pl.col("height").is_not_null()
        reasons: dict[str, pl.Expr] = {"too_small": pl.when(too_small | both).then(too_small)}
        if self.max_side_px is not None:
            too_large = pl.col("longer_side_px") > self.max_side_px
            reasons["too_large"] = pl.when(too_large | both).then(too_large)
        return reasons
