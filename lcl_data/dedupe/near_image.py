"""One picture encoded twice: another size, another quality, a little brighter; or as good as one."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from lcl_data import hamming
from lcl_data.dedupe import NearRule
from lcl_data.exchange import hashes
from lcl_data.frames import Frames
from lcl_data.likeness import THUMBNAIL_BYTES, Read, likeness, stored_thumbnails
from lcl_data.shingles import mixed
from lcl_data.store import read_opaque, read_pictures
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
    not, nor the grain of the picture: a photograph and its filtered self are two. `likeness: 0` is what MMC4
    did: the hash alone, within a document (distance 5, 10 for its core set); it needs no image store.

    A picture with transparency has two looks, over white and with transparency ignored, and is a copy of what
    one of them is a copy of; two looks of the second kind are not compared (in what is hidden, pictures agree
    that show nothing alike). An image whose hash is not known, or that cannot be read from the store, has no
    copies.
    """

    compares: ClassVar[Literal["images"]] = "images"
    # By chains, pictures each of which is hardly another than the last (a photograph under one filter after
    # another) would be one.
    chains: ClassVar[bool] = False
    facts_bytes: ClassVar[int] = 2 * THUMBNAIL_BYTES
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

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str]:
        """The hash is known of what an image store holds."""
        return "images", "phash"

    def keys(self, frames: Frames) -> pl.DataFrame:
        """Rows for each look of each image whose hash is known, with that hash and a number for its bytes."""
        known = frames.images.filter(pl.col("phash").is_not_null())
        number = pl.Series("bytes", hashes(known["sha256"].fill_null(""))[:, 0])
        looks = known.select("document", "item", "phash", "opaque_phash").with_columns(number)
        opaque = looks.filter(pl.col("opaque_phash").is_not_null()).with_columns(
            pl.col("bytes") ^ 1, phash="opaque_phash"
        )
        rows = pl.concat([looks, opaque]).drop("opaque_phash")
        if self.scope == "document":
            keys = mixed(rows["document"].to_numpy())
        else:
            keys = hamming.keys(rows["phash"].to_numpy(), self.distance).ravel()
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
        own = (pl.col("document") == pl.col("other")) & (pl.col("item") == pl.col("other_item"))
        return pairs.filter(~own)  # two looks of one picture

    def facts(self, frames: Frames) -> pl.DataFrame:
        """The hashes of each image's looks, its shape and, where pixels are compared, their thumbnails."""
        known = frames.images.filter(pl.col("phash").is_not_null())
        ids = frames.documents.select("document", "id")
        shape = (pl.col("width") / pl.col("height")).cast(pl.Float32).alias("shape")
        facts = known.join(ids, on="document", maintain_order="left")
        facts = facts.select("document", "item", "id", "key", "phash", "opaque_phash", shape)
        shown = self._thumbnails("thumbnail", facts["key"], read_pictures)
        two = facts.filter(pl.col("opaque_phash").is_not_null())["key"]
        opaque = self._thumbnails("opaque_thumbnail", two, read_opaque)
        return facts.join(shown, on="key", how="left").join(opaque, on="key", how="left").drop("key")

    def _thumbnails(self, name: str, keys: pl.Series, read: Read) -> pl.DataFrame:
        schema = {"key": pl.String, name: pl.Binary}
        if not self.likeness or self._images is None:
            return pl.DataFrame(schema=schema)
        found = list(stored_thumbnails(self._images, keys.drop_nulls().to_list(), read))
        return pl.DataFrame(found, schema=schema, orient="row")

    def similarity(self, pairs: pl.DataFrame) -> pl.Series:
        """The likeness of the pixels, of the looks that are most alike; 0 where a picture cannot be read or
        has another shape.
        """
        measured = self._alike if self.likeness else _agreeing
        looks = [measured(pairs, one, other) for one, other in _LOOKS]
        return pl.Series(np.maximum.reduce(looks))

    def _alike(self, pairs: pl.DataFrame, one: str, other: str) -> NDArray[np.float32]:
        one, other = f"{one}thumbnail", f"other_{other}thumbnail"
        ratio = (pl.col("shape") / pl.col("other_shape")).log().abs().fill_null(0)
        compared = pl.col(one).is_not_null() & pl.col(other).is_not_null()
        rows = pairs.select(compared & (ratio < _STRETCH)).to_series()
        measured = np.zeros(pairs.height, np.float32)
        chosen = pairs.filter(rows)
        measured[rows.to_numpy()] = likeness(chosen[one].to_list(), chosen[other].to_list())
        return measured


def _agreeing(pairs: pl.DataFrame, one: str, other: str) -> NDArray[np.float32]:
    """The share of equal bits; 0 where a picture has no such look."""
    hashes = pairs.select(one=f"{one}phash", other=f"other_{other}phash")
    apart = np.bitwise_count(hashes["one"].fill_null(0).to_numpy() ^ hashes["other"].fill_null(0).to_numpy())
    known = hashes.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
    share: NDArray[np.float32] = np.where(known, 1 - apart.astype(np.float32) / 64, np.float32(0))
    return share


_STRETCH = 0.1  # of the logarithm of width / height: a tenth more or less
_LOOKS = (("", ""), ("opaque_", ""), ("", "opaque_"))  # that are compared, by the prefix of their facts
