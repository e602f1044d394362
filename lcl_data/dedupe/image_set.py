"""Pages of one site with the same pictures: printer's versions, one article under several addresses."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.crawl_dates import DATES, crawled
from lcl_data.dedupe import ExactRule, hashed, host, keep_one
from lcl_data.frames import Frames


class ImageSet(ExactRule):
    """Documents of one host whose sets of image URLs are equal, in any order and however often each occurs.

    OBELICS (step 13) keeps the latest: of 159 million documents it removed 18 million. Which one that is, is
    told as for `same_url`: by the date of the crawl, then by the order of reading. `by: bytes` compares what
    the pictures are in place of where they lie; a picture whose bytes are not known counts by its URL. A
    document without images, or without a URL that names a host, has no copies. The host is compared without
    `www.` and port.
    """

    compares: ClassVar[Literal["documents"]] = "documents"
    by: Literal["url", "bytes"] = Field("url", description="what is equal in two pictures")
    min_images: int = Field(1, ge=1, description="different pictures that a set must have to be evidence")
    keep: Literal["last", "first"] = Field("last", description="which one stays, by date, then as read")
    dates: tuple[str, ...] = Field(
        DATES,
        description="keys of a document's meta that may say when it was crawled; a dot enters an object",
    )

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str]:
        """The address of the page."""
        return "documents", "url"

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per document that has a host and enough images."""
        picture = pl.col("url") if self.by == "url" else pl.coalesce("sha256", "url")
        sets = frames.images.group_by("document").agg(picture.unique().sort().alias("set"))
        sets = sets.filter(pl.col("set").list.len() >= self.min_images)
        rows = frames.documents.select("document", "id", host(), crawled(self.dates)).drop_nulls("host")
        rows = rows.join(sets, on="document", maintain_order="left")
        # No URL holds a white space that the separators could be mistaken for.
        content = pl.concat_str("host", pl.col("set").list.join("\x1e"), separator="\x1f")
        compared = hashed(rows.select("document", "id"), rows.select(content).to_series())
        return compared.with_columns(rows["date"])

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All but one document of each set."""
        return keep_one(rows, self.keep, order=["date"])
