"""Cut pictures without a sharp edge: out of focus, shaken, or blown up from a thumbnail."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageBlur(Filter):
    """Variance of the Laplacian of the stored picture in grey, its short side reduced to 256 pixels.

    The default is NeMo Curator's (InterleavedBlurFilterStage, 100), which measures originals of any size. At
    this scale it means a blur that is visible after the reduction; what that finds and what it costs is
    in benchmarks/README.md. Fog, sky and shallow focus lose sharpness too.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    min_sharpness: float = Field(100.0, ge=0, description="pictures with a smaller variance are rejected")

    def reasons(self) -> dict[str, pl.Expr]:
        """Blurred."""
        return {"blurred": pl.col("pixel_sharpness") < self.min_sharpness}
