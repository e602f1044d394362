"""Cut banners, rulers and skyscrapers: pictures much longer than wide, or wider than long."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageAspect(Filter):
    """Longer side over shorter side of the original picture.

    The default is that of MMC4, OBELICS and OmniCorpus (2); COYO and DataComp, sets of pairs, use 3.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    max: float = Field(2.0, ge=1, description="pictures with a greater ratio of sides are rejected")

    def facts(self) -> dict[str, pl.Expr]:
        """The fact aspect."""
        longer = pl.max_horizontal("width", "height")
        shorter = pl.min_horizontal("width", "height")
        known = pl.col("width").is_not_null() & pl.col("height").is_not_null()
        return {"aspect": pl.when(known).then(longer / shorter)}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_long."""
        return {"too_long": pl.col("aspect") > self.max}
