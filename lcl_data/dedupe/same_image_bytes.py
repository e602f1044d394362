"""The same picture, byte for byte, in several places: logos, stock photographs, reposts."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.dedupe import ExactRule, hashed, keep_one
from lcl_data.frames import Frames


class SameImageBytes(ExactRule):
    """Image items whose stored bytes have the same SHA-256; the first in the order of reading stays.

    An image whose hash is unknown (never attached from a store) has no copies. The default scope is one
    document, as in MMC4 (step 3) and OBELICS (step 15); over the whole corpus a picture can illustrate two
    texts rightly.
    """

    compares: ClassVar[Literal["images"]] = "images"
    scope: Literal["document", "corpus"] = Field("document", description="where copies are looked for")

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str]:
        """The bytes are known of what an image store holds."""
        return "images", "sha256"

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per image whose hash is known."""
        known = frames.images.filter(pl.col("sha256").is_not_null()).select("document", "item", "sha256")
        rows = known.join(frames.documents.select("document", "id"), on="document", maintain_order="left")
        return hashed(rows, rows["sha256"])

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All but the first image of each set of copies."""
        return keep_one(rows, within=["document"] if self.scope == "document" else [])
