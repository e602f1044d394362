"""Evaluation pictures in the training corpus: what an encoder was tested on it must not have seen."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from lcl_data.dedupe import ExactRule, Kind
from lcl_data.evaluation_images import EvaluationImages, Pictures, index, pictures_state, unread
from lcl_data.frames import Frames
from lcl_data.hamming import Numbers
from lcl_data.likeness import likeness, stored_thumbnails
from lcl_data.named_files import State
from lcl_data.shingles import mixed
from schemas.errors import RecipeError


class DecontaminateImage(ExactRule):
    """Images, or the documents that hold them, that are pictures of an evaluation set: the perceptual hashes
    differ in at most `distance` bits and the pixels agree (`lcl_data.likeness`).

    M4 and COYO decide by the hash alone, as `likeness: 0` does; it needs no image store, and takes diagrams
    of one layout for one. `remove: document` is M4's `remove_all_doc`. An image whose hash is not known, or
    that cannot be read from the store, is taken for none of the set. `decisions/` names the picture met.
    """

    compares: ClassVar[Literal["images"]] = "images"
    against: EvaluationImages = Field(description="folder of the evaluation pictures")
    distance: int = Field(6, ge=0, le=10, description="bits in which the hash of a picture met may differ")
    likeness: float = Field(
        0.75, ge=0, le=1, description="least agreement of the pixels; 0: the hash decides alone"
    )
    remove: Literal["image", "document"] = Field("image", description="what is dropped")
    _images: Path | None = PrivateAttr(None)
    _state: State = PrivateAttr(())  # of the evaluation set: a worker that outlives a change hashes it anew

    @property
    def drops(self) -> Kind:
        """As `remove` says."""
        return "documents" if self.remove == "document" else "images"

    def reading(self, images: Path | None) -> "DecontaminateImage":
        """The rule with the store it reads pictures from.

        Raises:
            RecipeError: it needs one and there is none.
        """
        if self.likeness and images is None:
            raise RecipeError(
                "decontaminate_image compares pixels: name the image store (--images), or likeness: 0"
            )
        rule = self.model_copy()
        rule._images, rule._state = images, pictures_state(self.against)
        return rule

    def notes(self) -> list[str]:
        """Files of the set that are not read."""
        return unread(self.against)

    @property
    def needs(self) -> tuple[Literal["documents", "images"], str]:
        """The hash is known of what an image store holds."""
        return "images", "phash"

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per image, or document, that meets the set, with the picture of it that is most alike."""
        held = index(self.against, self.distance, self._state)
        known = frames.images.filter(pl.col("phash").is_not_null()).select("document", "item", "key", "phash")
        rows, entries = held.index.find(known["phash"].to_numpy())
        met = known[rows].with_columns(
            similarity=pl.Series(self._similarity(held, known[rows], entries), dtype=pl.Float32),
            kept_id=pl.Series([held.names[entry] for entry in entries], dtype=pl.String),
        )
        met = met.filter(pl.col("similarity") >= pl.lit(self.likeness, pl.Float32))
        ids = frames.documents.select("document", "id")
        return self._rows(met.drop("key", "phash").join(ids, on="document", maintain_order="left"))

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What met the set: nothing of the corpus stays for it."""
        return rows.drop("key")

    def _similarity(self, held: Pictures, met: pl.DataFrame, entries: Numbers) -> NDArray[np.float32]:
        """How alike each image and the picture it meets are: their pixels, or the bits of their hashes."""
        apart = np.bitwise_count(met["phash"].to_numpy() ^ held.index.hashes[entries])
        if not self.likeness or self._images is None:
            share: NDArray[np.float32] = 1 - apart.astype(np.float32) / 64
            return share
        ours = dict(stored_thumbnails(self._images, met["key"].drop_nulls().to_list()))
        theirs = held.thumbnails(entries.tolist())
        readable = np.array([key in ours for key in met["key"]], bool)
        measured = np.zeros(met.height, np.float32)
        measured[readable] = likeness(
            [ours[key] for key in met["key"].filter(pl.Series(readable, dtype=pl.Boolean))],
            [theirs[entry] for entry in entries[readable].tolist()],
        )
        return measured

    def _rows(self, met: pl.DataFrame) -> pl.DataFrame:
        """The best match of each image or document, and a key that deals them over the buckets."""
        if self.remove == "document":
            met = met.with_columns(item=pl.lit(None, pl.Int32))
        best = met.sort("document", "item", -pl.col("similarity"), "kept_id")
        best = best.unique(["document", "item"], keep="first", maintain_order=True)
        return best.with_columns(key=pl.Series(mixed(best["document"].to_numpy()), dtype=pl.UInt64))
