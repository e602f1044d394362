"""One picture encoded twice: another size, another quality, a little brighter; or as good as one."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field, PrivateAttr

from lcl_data import hamming
from lcl_data.dedupe import NearRule
from lcl_data.exchange import hashes
from lcl_data.frames import Frames
from lcl_data.likeness import likeness, stored_thumbnails
from lcl_data.shingles import mixed
from schemas.errors import RecipeError

# So many pictures of one hash are compared with all their neighbours; what else has that hash is compared
# with these, so that a hash which everything shares (a page of one colour) costs no square.
_LEADERS = 8


class NearImage(NearRule):
    """Images whose perceptual hashes differ in at most `distance` bits and whose pixels agree; the first in
    the order of reading stays.

    The hash finds candidates, exactly as a comparison of all with all would. Alone it is not enough: two
    diagrams of one layout with other words have one hash. So candidates are decoded from the image store and
    compared window by window (`lcl_data.likeness`); brightness and contrast may differ, a changed label may
    not. `likeness: 0` is what MMC4 did: the hash alone, within a document (distance 5, 10 for its core set);
    it needs no image store.

    An image whose hash is not known, or that cannot be read from the store, has no copies.
    """

    compares: ClassVar[Literal["images"]] = "images"
    facts_bytes: ClassVar[int] = 10_000  # two thumbnails
    distance: int = Field(8, ge=0, le=10, description="bits in which the hashes of two copies may differ")
    likeness: float = Field(
        0.75, ge=0, le=1, description="least agreement of the pixels of two copies; 0: the hash decides alone"
    )
    scope: Literal["document", "corpus"] = Field("document", description="where copies are looked for")
    _images: Path | None = PrivateAttr(None)

    @property
    def spread(self) -> int:
        """A key per pair of blocks of the hash."""
        return 1 if self.scope == "document" else hamming.spread(self.distance)

    @property
    def least(self) -> float:
        """The likeness, or where that is not asked for, the share of equal bits."""
        return self.likeness or 1 - self.distance / 64

    def reading(self, images: Path | None) -> "NearImage":
        """The rule with the store it reads candidates from.

        Raises:
            RecipeError: it needs one and there is none.
        """
        if self.likeness and images is None:
            raise RecipeError("near_image compares pixels: name the image store (--images), or likeness: 0")
        rule = self.model_copy()
        rule._images = images
        return rule

    def keys(self, frames: Frames) -> pl.DataFrame:
        """Rows for each image whose hash is known, with that hash and a number for its bytes."""
        known = frames.images.filter(pl.col("phash").is_not_null())
        found = known["phash"].to_numpy()
        if self.scope == "document":
            keys = mixed(known["document"].to_numpy())
        else:
            keys = hamming.keys(found, self.distance).ravel()
        number = pl.Series("bytes", hashes(known["sha256"].fill_null(""))[:, 0])
        rows = known.select("document", "item", "phash").with_columns(number)
        repeated: pl.DataFrame = rows[np.repeat(np.arange(rows.height), self.spread)]
        return repeated.select(pl.Series("key", keys), pl.all())

    def candidates(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Pairs of images whose hashes are near, and of images with equal bytes."""
        alike = ["key", "phash"]
        placed = rows.unique().sort(*alike, "document", "item").with_row_index("row")
        placed = placed.with_columns(first=pl.col("row").first().over(*alike, "bytes"))
        copies = placed.filter(pl.col("row") > pl.col("first")).select("first", "row").to_numpy()
        leads = placed.filter(pl.col("row") == pl.col("first"))
        leads = leads.with_columns(rank=pl.int_range(pl.len()).over(alike))
        leaders, others = leads.filter(pl.col("rank") < _LEADERS), leads.filter(pl.col("rank") >= _LEADERS)
        near = hamming.neighbours(leaders["key"].to_numpy(), leaders["phash"].to_numpy(), self.distance)
        met = others.join(leaders, on=alike).select("row_right", "row").to_numpy()
        first, second = np.concatenate([leaders["row"].to_numpy()[np.stack(near, 1)], copies, met]).T
        places = placed.select("document", "item")
        other = places[second].rename({"document": "other", "item": "other_item"})
        pairs: pl.DataFrame = pl.concat([places[first], other], how="horizontal").unique()
        return pairs

    def facts(self, frames: Frames) -> pl.DataFrame:
        """The hash of each image and, where pixels are compared, its thumbnail and shape."""
        known = frames.images.filter(pl.col("phash").is_not_null())
        ids = frames.documents.select("document", "id")
        shape = (pl.col("width") / pl.col("height")).cast(pl.Float32).alias("shape")
        facts = known.join(ids, on="document", maintain_order="left")
        facts = facts.select("document", "item", "id", "key", "phash", shape)
        return facts.join(self._thumbnails(facts["key"]), on="key", how="left").drop("key")

    def _thumbnails(self, keys: pl.Series) -> pl.DataFrame:
        schema = {"key": pl.String, "thumbnail": pl.Binary}
        if not self.likeness or self._images is None:
            return pl.DataFrame(schema=schema)
        return pl.DataFrame(
            list(stored_thumbnails(self._images, keys.drop_nulls().to_list())), schema=schema, orient="row"
        )

    def similarity(self, pairs: pl.DataFrame) -> pl.Series:
        """The likeness of the pixels; 0 where a picture cannot be read or has another shape."""
        if not self.likeness:
            apart = np.bitwise_count(pairs["phash"].to_numpy() ^ pairs["other_phash"].to_numpy())
            return pl.Series(1 - apart.astype(np.float32) / 64)
        ratio = (pl.col("shape") / pl.col("other_shape")).log().abs().fill_null(0)
        compared = pl.col("thumbnail").is_not_null() & pl.col("other_thumbnail").is_not_null()
        rows = pairs.select(compared & (ratio < _STRETCH)).to_series()
        measured = np.zeros(pairs.height, np.float32)
        chosen = pairs.filter(rows)
        measured[rows.to_numpy()] = likeness(
            chosen["thumbnail"].to_list(), chosen["other_thumbnail"].to_list()
        )
        return pl.Series(measured)


_STRETCH = 0.1  # of the logarithm of width / height: a tenth more or less
