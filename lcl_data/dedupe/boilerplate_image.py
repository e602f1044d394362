"""One picture in many documents: banners, logos, advertisements, spacers."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.dedupe import COPY, ExactRule, hashed, keep_one
from lcl_data.frames import Frames

_COLUMNS = {"bytes": "sha256", "phash": "phash", "url": "url"}


class BoilerplateImage(ExactRule):
    """Images that more than `documents` documents hold; all of them go, or all but the first.

    OBELICS (step 8) and OmniCorpus drop every one at more than 10; MMC4 likewise, at more than 10 copies in a
    sample of 60,000 pictures. Equality is that of the stored bytes, of the perceptual hash (OmniCorpus; a
    banner in several sizes, but also whatever else shares its 64 bits, such as pages of one colour) or of the
    URL (OBELICS). Perceptual hashes of a store that img2dataset made, or that upstream published, may lie
    some bits from those of `download`: one picture in two such stores counts as two. A document counts once,
    however often it holds the picture. An image where the compared fact is not known, because no store was
    attached, is left alone.
    """

    compares: ClassVar[Literal["images"]] = "images"
    documents: int = Field(10, ge=1, description="a picture in more documents than this is boilerplate")
    by: Literal["bytes", "phash", "url"] = Field("bytes", description="what is equal in two copies")
    keep: Literal["none", "first"] = Field("none", description="which one stays, in the order of reading")

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str]:
        """What is compared; all but URLs come from an image store."""
        return "images", _COLUMNS[self.by]

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per image where what is compared is known."""
        column = _COLUMNS[self.by]
        known = frames.images.filter(pl.col(column).is_not_null())
        known = known.select("document", "item", pl.col(column).cast(pl.String).alias("compared"))
        rows = known.join(frames.documents.select("document", "id"), on="document", maintain_order="left")
        return hashed(rows, rows["compared"])

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Every image of a picture that is in too many documents."""
        common = rows.filter(pl.col("document").n_unique().over(COPY) > self.documents)
        return keep_one(common) if self.keep == "first" else common.select("document", "item", "id")
