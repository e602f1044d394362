"""Cut pictures that were drawn and not taken: text, diagrams, charts, screenshots on a light ground."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageText(Filter):
    """Few grey levels on a light ground: the entropy of the levels, and the most common of them.

    A heuristic without a published source; no text is read. The defaults lose one or two photographs in a
    hundred (products and portraits on white) and find three in five diagrams of textbooks
    (benchmarks/README.md). What is drawn on a dark ground is kept: there it cannot be told from a night sky.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    min_entropy: float = Field(
        5.0, ge=0, le=8, description="pictures of fewer bits a pixel are rejected if their ground is light"
    )
    min_ground: int = Field(
        128, ge=0, le=255, description="grey level (0 black) from which a ground is light"
    )

    def reasons(self) -> dict[str, pl.Expr]:
        """Drawn."""
        is_light = pl.col("pixel_ground") >= self.min_ground
        return {"drawn": (pl.col("pixel_entropy") < self.min_entropy) & is_light}
