"""The pictures of an evaluation set, as a user has them: a folder, searched with all folders below it.

Every worker hashes the set once and keeps the hashes: 12 bytes for each of their keys, 28 at a distance of 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, ImageOps
from pydantic import AfterValidator

from lcl_data import files, hamming
from lcl_data.likeness import thumbnail
from lcl_data.named_files import PLACED, State, by_content, passed_over, state
from lcl_data.phash import drafted, phash
from lcl_data.pictures import Picture, Refusal, guarded
from schemas.errors import RecipeError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_MAX_PIXELS = Picture().max_pixels


def _found(folder: Path) -> Path:
    if not _files(folder):
        raise ValueError(f"{folder}: no picture in it ({', '.join(SUFFIXES)}); name a folder of pictures")
    return folder


def _files(folder: Path) -> list[Path]:
    return [path for path in files.below(folder) if path.suffix.lower() in SUFFIXES]


def unread(folder: Path) -> list[str]:
    """A line that says which files of the set's folder are no pictures that are read."""
    return passed_over(folder, _files(folder), SUFFIXES)


EvaluationImages = Annotated[Path, PLACED, AfterValidator(_found), by_content(_files)]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of an evaluation set.

    Attributes:
        folder: where they lie.
        names: their paths below it.
        index: their perceptual hashes.
    """

    folder: Path
    names: list[str]
    index: hamming.Index

    def thumbnails(self, entries: Sequence[int]) -> dict[int, bytes]:
        """Thumbnails of some of the pictures."""
        return {entry: _thumbnail(self.folder / self.names[entry]) for entry in sorted(set(entries))}


def pictures_state(folder: Path) -> State:
    """Another one once a picture of the folder has changed."""
    return state(_files(folder))


@lru_cache(maxsize=2)
def index(folder: Path, distance: int, _: State) -> Pictures:
    """The pictures of a folder in a state, to be looked up within `distance` bits.

    Raises:
        RecipeError: a picture cannot be decoded.
    """
    paths = _files(folder)
    hashes = np.array([_hash(path) for path in paths], np.uint64)
    return Pictures(
        folder, [str(path.relative_to(folder)) for path in paths], hamming.index(hashes, distance)
    )


def _hash(path: Path) -> int:
    bits = guarded(path.read_bytes(), _MAX_PIXELS, lambda image: phash(_upright(drafted(image))))
    if isinstance(bits, Refusal):
        raise RecipeError(f"{path}: {bits.reason} ({bits.detail}); mend or remove it")
    return bits


def _thumbnail(path: Path) -> bytes:
    made = guarded(path.read_bytes(), _MAX_PIXELS, lambda image: thumbnail(_upright(image)))
    if isinstance(made, Refusal):
        raise RecipeError(f"{path}: {made.reason} ({made.detail}); mend or remove it")
    return made


def _upright(image: Image.Image) -> Image.Image:
    """As `download` stores pictures: turned upright, transparent pixels over white."""
    turned = ImageOps.exif_transpose(image)
    if not turned.has_transparency_data:
        return turned
    page = Image.new("RGBA", turned.size, "white")
    return Image.alpha_composite(page, turned.convert("RGBA"))
