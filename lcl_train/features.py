"""Features of a labelled folder under a frozen encoder, computed once and kept in safetensors.

Two vectors of a picture: the pooled one, which the contrast trained and the evals look at by default, and the
mean of the patch tokens, which is left where the pooling is not exported.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lcl_train.encoder import Encoder
from lcl_train.tensor_files import write_tensors
from lcl_train.transform import centre_crop, decode
from schemas.errors import ImageError, RecipeError

Kind = Literal["patches", "pooled"]
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_BATCH = 256
_FORMAT = "features/5 centre-crop bicubic"  # changes whenever equal weights and pictures give other numbers


@dataclass(frozen=True)
class Folder:
    """A folder of classes: train/<class>/*.jpg and val/<class>/*.jpg.

    Raises:
        RecipeError: a split is missing, or the classes of the two differ.
    """

    root: Path

    def __post_init__(self) -> None:
        for split in SPLITS:
            if not (self.root / split).is_dir():
                raise RecipeError(
                    f"{self.root}: no folder {split}; give train/<class>/*.jpg and val/<class>/*.jpg"
                )
        if other := set(_classes(self.root / "train")) ^ set(_classes(self.root / "val")):
            raise RecipeError(f"{self.root}: {', '.join(sorted(other))} is not a class of both train and val")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted; a label is a place in this list."""
        return _classes(self.root / "train")

    def pictures(self, split: Split) -> list[tuple[Path, int]]:
        """Every picture of a split with its label, by class and name.

        Raises:
            RecipeError: a class has none.
        """
        found = []
        for label, name in enumerate(self.classes):
            paths = [path for path in self._files(split, name) if path.suffix.lower() in SUFFIXES]
            if not paths:
                raise RecipeError(
                    f"{self.root / split / name}: no pictures ({', '.join(sorted(SUFFIXES))}); convert its "
                    "files to one of these, or remove the class from both splits"
                )
            found += [(path, label) for path in paths]
        return found

    def ignored(self, split: Split) -> int:
        """How many files in the classes of a split are no pictures by their endings."""
        files = [path for name in self.classes for path in self._files(split, name)]
        return len(files) - len(self.pictures(split))

    def _files(self, split: Split, name: str) -> list[Path]:
        return sorted((self.root / split / name).iterdir())

    def fingerprint(self, split: Split) -> str:
        """Hex digest of the names, sizes and times of the files: another file is another fingerprint."""
        facts = [
            (str(path.relative_to(self.root)), path.stat().st_size, path.stat().st_mtime_ns)
            for path, _ in self.pictures(split)
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Labelled:
    """Features of a split.

    Attributes:
        features: float32 [n, width].
        labels: int64 [n].
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Subject:
    """What an eval looks at: a frozen encoder, and a labelled folder as it sees it.

    Attributes:
        encoder: on the device where it shall run.
        folder: the pictures.
        cache: folder of the kept features.
    """

    encoder: Encoder
    folder: Folder
    cache: Path

    @cached_property
    def _digest(self) -> str:
        return self.encoder.digest()

    def labelled(self, split: Split, kind: Kind) -> Labelled:
        """Features and labels of a split, from the cache if they are there.

        Raises:
            ImageError: a picture that cannot be read.
        """
        key = hashlib.sha256(
            f"{_FORMAT} {self._digest} {self.folder.fingerprint(split)}".encode()
        ).hexdigest()
        file = self.cache / f"{key[:32]}.safetensors"
        tensors = _read(file) or self._extract(split, file)
        return Labelled(tensors[kind], tensors["labels"])

    def _extract(self, split: Split, file: Path) -> dict[str, Tensor]:
        pictures = self.folder.pictures(split)
        paths = [path for path, _ in pictures]
        found = [self._encode(paths[i : i + _BATCH]) for i in range(0, len(paths), _BATCH)]
        patches, pooled = (torch.cat(part) for part in zip(*found, strict=True))
        tensors = {
            "patches": patches,
            "pooled": pooled,
            "labels": torch.tensor([label for _, label in pictures]),
        }
        self.cache.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".tmp-{file.name}")
        write_tensors(draft, tensors)
        draft.replace(file)
        return tensors

    @torch.inference_mode()
    def _encode(self, paths: list[Path]) -> tuple[Tensor, Tensor]:
        device = next(self.encoder.parameters()).device
        with ThreadPoolExecutor() as pool:
            pixels = torch.stack(list(pool.map(self._pixels, paths)))
        patches, pooled = self.encoder(pixels.to(device))
        return patches.float().cpu(), pooled.float().cpu()

    def _pixels(self, path: Path) -> Tensor:
        try:
            return centre_crop(decode(path.read_bytes()), self.encoder.image_size)
        except OSError as error:
            raise ImageError("undecodable", f"{path}: {error}; remove it from the labelled folder") from error


def _classes(split: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in split.iterdir() if path.is_dir()))


def _read(file: Path) -> dict[str, Tensor] | None:
    """Kept features; None where there are none, or they are torn."""
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        return None
