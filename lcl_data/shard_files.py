"""What the two containers of training shards share: a row, the special ids, the map of a file."""

import json
import mmap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from schemas.errors import ShardError
from schemas.sequences import TOKENS_KEY

Container = Literal["arrow", "webdataset"]
Ints = npt.NDArray[np.int64]
SUFFIX: dict[Container, str] = {"arrow": ".arrow", "webdataset": ".tar"}


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids that no text ever gives, and the size of the vocabulary with them.

    Attributes:
        sot: start of a sequence.
        eot: end of a sequence.
        image: the place of one picture.
        boi: begins a picture's slots; put in by the loader.
        eoi: ends a picture's slots; put in by the loader.
        pad: fills a row; means nothing else.
        vocab_size: rows of the token embedding.
    """

    sot: int
    eot: int
    image: int
    boi: int
    eoi: int
    pad: int
    vocab_size: int

    def to_json(self) -> str:
        """As it stands in a shard's metadata."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Sequence:
    """One row of a training shard: a document, or one part of an over-long one.

    Attributes:
        id: the document's id; part k >= 1 is `<id>-<k>`.
        tokens: int32 [length]: sot, text, ONE `image` id per picture, eot.
        images: encoded bytes, in the order of their tokens; views of the memory-mapped file.
        image_keys: sha256 hex of those bytes: equal keys are copies of one picture.
        anchors: per picture, [start, end) in `tokens` of the text it belongs to; None: its place says it.
        source: name of the corpus.
        url: address of the page.
    """

    id: str
    tokens: npt.NDArray[np.int32]
    images: list[bytes | memoryview]
    image_keys: list[str]
    anchors: list[tuple[int, int] | None]
    source: str
    url: str | None = None


def special_tokens_of(metadata: dict[bytes, bytes], where: Path) -> SpecialTokens:
    """The special ids in a file's schema metadata.

    Raises:
        ShardError: there are none.
    """
    try:
        return SpecialTokens(**json.loads(metadata[TOKENS_KEY]))
    except (KeyError, ValueError, TypeError) as error:
        raise ShardError(f"{where}: no readable '{TOKENS_KEY.decode()}' in its metadata: {error}") from error


def fault_of(sequence: Sequence, special: SpecialTokens) -> str:
    """Why a row is none that `lcl shard` writes, in words; empty where it may be one."""
    tokens = sequence.tokens
    if not len(tokens) or int(tokens.view(np.uint32).max()) >= special.vocab_size:  # negative ones are large
        return f"its {len(tokens)} tokens are not ids from 0 to {special.vocab_size - 1}"
    few = tokens[tokens >= min(special.image, special.boi, special.eoi, special.pad)].tolist()
    if {special.boi, special.eoi, special.pad}.intersection(few):
        return "its tokens hold ids that only a trainer puts in"
    pictures, keys, anchors = len(sequence.images), len(sequence.image_keys), len(sequence.anchors)
    places = few.count(special.image)
    if not places == pictures == keys == anchors:
        return f"{places} places for pictures, but {pictures} pictures, {keys} keys, {anchors} anchors"
    odd = [key for key in sequence.image_keys if not key or key.strip("0123456789abcdefABCDEF")]
    return f"the key {odd[0]!r} of a picture is no hexadecimal number" if odd else ""


def mapped(path: Path) -> mmap.mmap:
    """The file in memory, its descriptor closed again; a ShardError where it is absent or empty."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError) as error:  # ValueError: it is empty
        raise ShardError(f"{path}: not a whole file ({error}); run `lcl shard` again") from error


def give_back(pages: mmap.mmap) -> None:
    """Let the system take the pages, which stay in its cache."""
    if hasattr(mmap, "MADV_DONTNEED"):  # Linux; elsewhere pages go when memory is short
        pages.madvise(mmap.MADV_DONTNEED)
