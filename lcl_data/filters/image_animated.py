"""Cut animations: of them a store keeps the first frame only, often a blank or a title."""

from typing import ClassVar, Literal

import polars as pl

from lcl_data.filters import Filter


class ImageAnimated(Filter):
    """Whether the original file (GIF, WebP, APNG) holds several frames.

    No published pipeline states such a rule; MMC4 and OBELICS have no GIF among their formats, which drops
    the still ones too. A store that img2dataset made does not know it: its pictures are `unmeasured`.
    """

    applies_to: ClassVar[Literal["image"]] = "image"

    def reasons(self) -> dict[str, pl.Expr]:
        """Animated."""
        return {"animated": pl.col("is_animated")}
