"""The door for trainers: random access to the rows of training shards, from either container.

It needs pyarrow, numpy and the standard library only, so that a training machine needs no curation engine.
Files are memory-mapped: opening a corpus costs its metadata, and a picture is a view of the page cache.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lcl_data.files import must_be_copied, place
from lcl_data.shard_files import (
    SUFFIX,
    Container,
    File,
    Ints,
    Sequence,
    SpecialTokens,
    open_file,
)
from schemas.errors import ShardError

__all__ = [
    "SUFFIX",
    "Container",
    "Ints",
    "Sequence",
    "Shards",
    "SpecialTokens",
    "open_file",
    "shard_paths",
]


class Shards:
    """All rows of one or more folders of training shards, in the order of folders, files and rows.

    It pickles as its folders (a data loader's worker opens its own maps) and is safe under fork.

    Attributes:
        folders: each written by `lcl shard`.
        paths: their shard files.
        special_tokens: ids of sot, eot, image, boi, eoi, pad, and the size of the vocabulary.
    """

    def __init__(
        self, folders: str | Path | Iterable[str | Path], container: Container | None = None
    ) -> None:
        """Open the shards of one folder or of several.

        Args:
            folders: one, or several.
            container: which files to read; None takes Arrow where a folder has it, else WebDataset.

        Raises:
            ShardError: a folder is unfinished, a file torn, foreign or newer, or they disagree on ids.
            RecipeError: a folder lies in object storage.
        """
        listed = [folders] if isinstance(folders, str | Path) else folders
        self.folders = [place(folder) for folder in listed]
        must_be_copied(*self.folders)
        self.paths = [path for folder in self.folders for path in shard_paths(folder, container)]
        self._container: Container | None = container
        self._files: list[File] = [open_file(path) for path in self.paths]
        self._starts = np.cumsum([0, *(file.rows for file in self._files)], dtype=np.int64)
        self.special_tokens = self._agreed_tokens()

    def __reduce__(self) -> tuple[Any, ...]:
        return Shards, (self.folders, self._container)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Sequence:
        """Row `row` of them all, 0-based; tokens and pictures are views, nothing is decoded."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[file].read(row - int(self._starts[file]))

    def __iter__(self) -> Iterator[Sequence]:
        yield from (file.read(row) for file in self._files for row in range(file.rows))

    @cached_property
    def lengths(self) -> Ints:
        """int64 [rows]: tokens of each row, a picture counted as one; reads no picture."""
        return np.concatenate([np.zeros(0, np.int64), *(file.lengths() for file in self._files)])

    @cached_property
    def image_counts(self) -> Ints:
        """int64 [rows]: pictures of each row; reads no picture."""
        return np.concatenate([np.zeros(0, np.int64), *(file.image_counts() for file in self._files)])

    def ids(self) -> Iterator[pa.Array]:
        """The ids of the rows, a file at a time; reads no picture."""
        return (file.ids() for file in self._files)

    def _agreed_tokens(self) -> SpecialTokens:
        files = zip(self._files, self.paths, strict=True)
        known = [(file.special_tokens, path) for file, path in files if file.special_tokens]
        if not known:
            raise ShardError(f"{self.folders}: no rows in any shard; see the rejects of `lcl shard`")
        for tokens, path in known:
            if tokens != known[0][0]:
                raise ShardError(f"{path}: other ids than {known[0][1]}; shard both with one tokenizer")
        return known[0][0]


def shard_paths(folder: Path, container: Container | None = None) -> list[Path]:
    """The shard files of a folder, by number; of Arrow if there are any, unless a container is named.

    Raises:
        ShardError: the folder has none, or is still being written.
    """
    if (folder / "rejects").is_dir() and not (folder / "manifest.json").exists():
        raise ShardError(f"{folder}: `lcl shard` has not finished; run it again to complete it")
    for kind in [container] if container else SUFFIX:
        if paths := sorted(folder.glob(f"[0-9]*{SUFFIX[kind]}"), key=lambda path: int(path.stem)):
            return paths
    raise ShardError(f"{folder}: no {container or 'training'} shards here; write them with `lcl shard`")
