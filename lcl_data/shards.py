"""The door for trainers: random access to the rows of training shards, from either container.

It needs pyarrow, numpy and the standard library only, so that a training machine needs no curation engine.
Files are memory-mapped: a picture is a view of the page cache.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, chain
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from lcl_data.arrow_file import ArrowFile
from lcl_data.files import must_be_copied, place
from lcl_data.shard_files import SUFFIX, Container, Ints, Sequence, SpecialTokens, fault_of
from lcl_data.tar_file import TarFile
from schemas.errors import ShardError

__all__ = [
    "SUFFIX",
    "Container",
    "Ints",
    "Sequence",
    "Shards",
    "SpecialTokens",
    "open_file",
    "read_row",
    "shard_paths",
]

File = ArrowFile | TarFile

_OPEN_FILES = 1024  # maps held at once; a process may have some 65,000
_PAGES_NBYTES = 128 << 20  # of pictures read, after which the pages of the maps are given back


class Shards:
    """All rows of one or more folders of training shards, in the order of folders, files and rows.

    A file is opened when a row or the sizes of it are asked for; how many rows it has stands in the manifest.
    So opening a corpus costs its manifests, whatever it holds. It pickles as its folders (a data loader's
    worker opens its own maps), and threads may share it.

    Attributes:
        folders: each written by `lcl shard`.
        paths: their shard files.
        starts: int64 [files + 1], number of the first row of each file, and of all rows.
        special_tokens: ids of sot, eot, image, boi, eoi, pad, and the size of the vocabulary.
    """

    def __init__(
        self, folders: str | Path | Iterable[str | Path], container: Container | None = None
    ) -> None:
        """Find the shards of one folder or of several; files that no manifest names are opened and counted.

        Args:
            folders: one, or several.
            container: which files to read; None takes Arrow where a folder has it, else WebDataset.

        Raises:
            ShardError: a folder is unfinished, a file missing, torn, foreign or newer, or their ids differ.
            RecipeError: a folder lies in object storage.
        """
        listed = [folders] if isinstance(folders, str | Path) else folders
        self.folders = [place(folder) for folder in listed]
        must_be_copied(*self.folders)
        self._container: Container | None = container
        self._open: OrderedDict[int, File] = OrderedDict()
        self._lock, self._nbytes = Lock(), 0
        paths = [shard_paths(folder, container) for folder in self.folders]
        self.paths = list(chain.from_iterable(paths))
        self._bounds = list(accumulate(map(len, paths), initial=0))
        facts = [_facts(folder) for folder in self.folders]
        for folder, known, found in zip(self.folders, facts, paths, strict=True):
            _check_all_here(folder, known, found)
        self._facts = [
            known.get(path.name) for known, found in zip(facts, paths, strict=True) for path in found
        ]
        rows = [fact[0] if fact else self.file(number).rows for number, fact in enumerate(self._facts)]
        self.starts = np.cumsum([0, *rows], dtype=np.int64)
        self.special_tokens = self._agreed_tokens()

    def __reduce__(self) -> tuple[Any, ...]:
        return Shards, (self.folders, self._container)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> Sequence:
        """Row `row` of them all, 0-based; tokens and pictures are views, nothing is decoded.

        Raises:
            ShardError: it is damaged, or not of LCL.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        place = row - int(self.starts[number])
        sequence = read_row(self.file(number), place, self.paths[number], self.special_tokens)
        self._nbytes += sum(map(len, sequence.images))
        if self._nbytes > _PAGES_NBYTES:
            self._nbytes = 0
            self._release()
        return sequence

    def __iter__(self) -> Iterator[Sequence]:
        yield from (self[row] for row in range(len(self)))

    def path_of(self, row: int) -> Path:
        """The file that row `row` lies in."""
        return self.paths[int(np.searchsorted(self.starts, row, side="right")) - 1]

    def file(self, number: int) -> File:
        """The file at `paths[number]`, opened if it is not open.

        Raises:
            ShardError: it is torn, foreign, newer, or not what its manifest says.
        """
        with self._lock:
            if number not in self._open:
                self._open[number] = self._opened(number)
            self._open.move_to_end(number)
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)  # views of it keep its map alive
            return self._open[number]

    def files_of(self, folder: int) -> range:
        """Numbers of the files of `folders[folder]`."""
        return range(*self._bounds[folder : folder + 2])

    @cached_property
    def digest(self) -> str:
        """Hex digest of the files' names and checksums, or of their rows where no manifest has checksums."""
        rows = np.diff(self.starts).tolist()
        facts = [fact[1] if fact else count for fact, count in zip(self._facts, rows, strict=True)]
        named = "\n".join(f"{path.name} {fact}" for path, fact in zip(self.paths, facts, strict=True))
        return blake2b(named.encode(), digest_size=16).hexdigest()

    @cached_property
    def lengths(self) -> Ints:
        """int64 [rows]: tokens of each row, a picture counted as one; opens all files, reads no picture."""
        sizes = (self.file(number).lengths() for number in range(len(self.paths)))
        return np.concatenate([np.zeros(0, np.int64), *sizes])

    @cached_property
    def image_counts(self) -> Ints:
        """int64 [rows]: pictures of each row; opens all files, reads no picture."""
        sizes = (self.file(number).image_counts() for number in range(len(self.paths)))
        return np.concatenate([np.zeros(0, np.int64), *sizes])

    def ids(self) -> Iterator[pa.Array]:
        """The ids of the rows, a file at a time; opens all files, reads no picture."""
        return (self.file(number).ids() for number in range(len(self.paths)))

    def _opened(self, number: int) -> File:
        file, path, fact = open_file(self.paths[number]), self.paths[number], self._facts[number]
        if fact and file.rows != fact[0]:
            raise ShardError(
                f"{path}: {file.rows} rows, but its manifest says {fact[0]}; run `lcl shard` again"
            )
        known = getattr(self, "special_tokens", None)
        if known and file.special_tokens not in (None, known):
            raise ShardError(f"{path}: other ids than the shards before it; shard both with one tokenizer")
        return file

    def _release(self) -> None:
        """Let the system take back the pages of all maps; they stay in its cache."""
        with self._lock:
            for file in self._open.values():
                file.release()

    def _agreed_tokens(self) -> SpecialTokens:
        """Of the first file of each folder that has rows; the others are asked when they are opened."""
        filled = np.flatnonzero(np.diff(self.starts))
        firsts = [filled[np.isin(filled, self.files_of(n))][:1] for n in range(len(self.folders))]
        known = [(self.file(int(n)).special_tokens, self.paths[n]) for n in np.concatenate(firsts)]
        if not known or known[0][0] is None:
            raise ShardError(f"{self.folders}: no rows in any shard; see the rejects of `lcl shard`")
        for tokens, path in known:
            if tokens != known[0][0]:
                raise ShardError(f"{path}: other ids than {known[0][1]}; shard both with one tokenizer")
        return known[0][0]


def _facts(folder: Path) -> dict[str, tuple[int, str]]:
    """Rows and checksum of each file that the folder's manifest names; none without a manifest.

    Raises:
        ShardError: the manifest is torn.
    """
    path = folder / "manifest.json"
    try:
        shards = json.loads(path.read_bytes())["shards"]
        return {str(shard["name"]): (int(shard["rows"]), str(shard["sha256"])) for shard in shards}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{path}: not a manifest of LCL ({error}); run `lcl shard` again") from error


def _check_all_here(folder: Path, facts: dict[str, tuple[int, str]], paths: list[Path]) -> None:
    """That no file of this container which the manifest names is missing, as after half a copy.

    Raises:
        ShardError: some are.
    """
    named = {name for name in facts if name.endswith(paths[0].suffix)}
    if missing := sorted(named - {path.name for path in paths}):
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ShardError(
            f"{folder}: {missing[0]}{others} not here, though the manifest names it; copy what is missing, "
            "or run `lcl shard` again"
        )


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


def read_row(file: File, row: int, path: Path, special: SpecialTokens) -> Sequence:
    """Row `row` of a shard file, if it is one that a trainer can learn from.

    Raises:
        ShardError: it is damaged, or not of LCL.
    """
    try:
        sequence = file.read(row)
        fault = fault_of(sequence, special)
    except (ValueError, LookupError, TypeError) as error:  # of bytes that are no text, names that are missing
        fault = f"{type(error).__name__}: {error}"
    if fault:
        raise ShardError(f"{path}: row {row} is damaged or not of LCL ({fault}); run `lcl shard` again")
    return sequence


def open_file(path: Path) -> File:
    """One shard file of either container; a ShardError if it is torn, foreign or newer."""
    return ArrowFile(path) if path.suffix == SUFFIX["arrow"] else TarFile(path)
