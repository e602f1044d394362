"""Cut pictures that are QR codes, or show one large: advertisements, tickets, contact cards."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageQr(Filter):
    """The share of the stored picture that QR codes cover, without their quiet zones.

    The default is NeMo Curator's (InterleavedQRCodeFilterStage, 0.05). Codes are looked for with zxing-cpp in
    the picture reduced to a short side of 256 pixels. A code of less than about two pixels a module is not
    found: at this scale one of few characters is then below the default share, one of hundreds may not be.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    max_share: float = Field(0.05, ge=0, le=1, description="pictures with a greater share are rejected")

    def reasons(self) -> dict[str, pl.Expr]:
        """too_large."""
        return {"too_large": pl.col("pixel_qr_share") > self.max_share}
