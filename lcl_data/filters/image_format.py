"""Cut pictures whose file is of a format that nobody asked for."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageFormat(Filter):
    """Format of the original file, by its first bytes and not by its name.

    The default is that of OBELICS (config_filter_web_documents.yaml: jpg, jpeg, png, webp). MMC4 takes jpeg
    and png (section 3). A store that img2dataset made does not know the format: its pictures are `unmeasured`
    unless `keep_unknown` is set, as it is in the presets.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    formats: tuple[Literal["jpeg", "png", "webp", "gif", "bmp", "tiff"], ...] = Field(
        ("jpeg", "png", "webp"), min_length=1, description="pictures of other formats are rejected"
    )
    keep_unknown: bool = Field(False, description="pictures whose format the store does not know are kept")

    def reasons(self) -> dict[str, pl.Expr]:
        """not_allowed."""
        not_allowed = ~pl.col("format").is_in(self.formats)
        return {"not_allowed": not_allowed.fill_null(False) if self.keep_unknown else not_allowed}
