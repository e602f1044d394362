"""Documents into fixed rows under two budgets, tokens and images, so that almost no position is padding.

The packer sees sizes only, so its state is a short list of numbers and exact resume is cheap. Too long
documents are cut into parts first: nothing is dropped, at the price of parts that have lost their past.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lcl_data.shards import SpecialTokens
from schemas.errors import RecipeError
from schemas.recipe import Settings


class PackSettings(Settings):
    """The budgets of a row and how far ahead the packer looks."""

    row_tokens: int = Field(2048, ge=8, description="language-model positions of a row")
    part_tokens: int | None = Field(
        None,
        ge=8,
        description="positions of a document, longer ones are cut; None, or more than a row: a row. Rows of "
        "several times as many are fuller, because a document above half a row finds no partner in it",
    )
    row_images: int = Field(24, ge=1, description="images a row may hold")
    lookahead: int = Field(512, ge=1, description="documents (or parts) to choose from when a row is filled")
    slack: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of `part_tokens` given up to cut a long document beside an image, not in text",
    )

    @property
    def longest(self) -> int:
        """Positions of a document, or of one part of it, at most."""
        return min(self.row_tokens, self.part_tokens or self.row_tokens)

    @property
    def limit(self) -> str:
        """Which setting says so, and what."""
        return f"{'row' if self.longest == self.row_tokens else 'part'}_tokens {self.longest}"


@dataclass(frozen=True, slots=True)
class Cut:
    """A document, or one part of a document that is too long.

    Attributes:
        tokens: int32 [n], begins with sot, one image-position token per image.
        images: the part's images, as a slice of the document's images in the order of its tokens.
    """

    tokens: NDArray[np.int32]
    images: slice


class Piece(NamedTuple):
    """What the packer knows of a part.

    Attributes:
        row: of its document in the shards.
        before: row of the document drawn before it; -1: none.
        epoch: of its document.
        part: number of the part.
        tokens: after expansion of the images.
        images: pictures.
    """

    row: int
    before: int
    epoch: int
    part: int
    tokens: int
    images: int


@dataclass(slots=True)
class PackStats:
    """What the rows popped so far hold against what they could hold."""

    rows: int = 0
    pieces: int = 0
    tokens: int = 0
    images: int = 0
    token_budget: int = 0
    image_budget: int = 0

    @property
    def fill(self) -> float:
        """Share of token positions that are no padding, 0-1."""
        return self.tokens / max(self.token_budget, 1)

    @property
    def image_fill(self) -> float:
        """Share of the image budget in use, 0-1."""
        return self.images / max(self.image_budget, 1)


def split(
    tokens: NDArray[np.int32], specials: SpecialTokens, slots: int, settings: PackSettings
) -> list[Cut]:
    """Cut a placed document into parts of `settings.longest`; a document that fits is one part.

    A cut falls beside an image where that costs at most `settings.slack` of a part, else between two tokens
    of text, never inside an image. Every part restarts with sot, the last one ends with eot; each other token
    is in exactly one part.

    Args:
        tokens: int32 [n] starting with sot, one image-position token per image.
        specials: the ids.
        slots: visual slots of an image (the model's N).
        settings: the budgets.

    Raises:
        RecipeError: if an image with sot and eot does not fit a part at all.
    """
    if settings.longest < slots + 4:
        raise RecipeError(f"{settings.limit}: an image takes {slots + 4}; raise it to that or more")
    is_image = tokens == specials.image
    images = int(np.count_nonzero(is_image))
    if len(tokens) + images * (slots + 1) <= settings.longest and images <= settings.row_images:
        return [Cut(tokens, slice(0, images))]
    cuts = list(_cuts(is_image, slots, settings))
    seen = np.concatenate([[0], np.cumsum(is_image)])
    sot = np.array([specials.sot], np.int32)
    return [
        Cut(
            tokens if stop - start == len(tokens) else np.concatenate([sot, tokens[max(start, 1) : stop]]),
            slice(int(seen[start]), int(seen[stop])),
        )
        for start, stop in pairwise(cuts)
    ]


def _cuts(is_image: NDArray[np.bool_], slots: int, settings: PackSettings) -> Iterator[int]:
    """0, the places where a new part begins, and the length of the document."""
    length = np.concatenate([[0], np.cumsum(np.where(is_image, slots + 2, 1))])
    images = np.concatenate([[0], np.cumsum(is_image)])
    beside = np.flatnonzero(is_image[:-1] | is_image[1:]) + 1
    end, n = 0, len(is_image)
    yield 0
    while end < n:
        start = end
        budget = settings.longest - (start > 0)  # later parts get a sot of their own
        fits = int(np.searchsorted(length, length[start] + budget, "right")) - 1
        end = min(fits, int(np.searchsorted(images, images[start] + settings.row_images, "right")) - 1)
        if end < n:
            near = beside[(beside <= end) & (beside > start + 1)]
            if len(near) and length[end] - length[near[-1]] <= settings.slack * settings.longest:
                end = int(near[-1])
            end -= end == n - 1  # an end-of-text alone is no part
        yield end


class Packer:
    """Best-fit decreasing over a look-ahead buffer, with state for exact resume.

    Push pieces until `is_full`, then pop rows; at the end of the data pop until empty. A row starts with the
    piece that waited longest, so that none starves and the shuffled order roughly stays; the largest that fit
    follow, of equal ones the oldest. A row of k pieces costs k searches in a sorted list.
    """

    def __init__(self, settings: PackSettings) -> None:
        self.settings = settings
        self.stats = PackStats()
        self._waiting: dict[int, Piece] = {}  # by arrival, which is their order too
        self._by_size: list[tuple[int, int, int]] = []  # (-tokens, arrival, images), sorted
        self._arrivals = 0

    def __len__(self) -> int:
        """Pieces waiting."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the look-ahead is reached: time to pop a row."""
        return len(self._waiting) >= self.settings.lookahead

    def push(self, piece: Piece) -> None:
        """Let a piece wait for its row.

        Raises:
            RecipeError: if it fits no row (cut the document with `split` first).
        """
        if piece.tokens > self.settings.row_tokens or piece.images > self.settings.row_images:
            raise RecipeError(f"{piece}: larger than a row of {self.settings}; split the document first")
        insort(self._by_size, (-piece.tokens, self._arrivals, piece.images))
        self._waiting[self._arrivals] = piece
        self._arrivals += 1

    def pop(self) -> list[Piece]:
        """The next row, from the pieces that wait.

        Raises:
            IndexError: if none waits.
        """
        if not self._waiting:
            raise IndexError("no piece waits")
        arrival, oldest = next(iter(self._waiting.items()))
        at = bisect_left(self._by_size, (-oldest.tokens, arrival))
        row = [self._take(at)]
        tokens, images = self.settings.row_tokens - oldest.tokens, self.settings.row_images - oldest.images
        at = 0
        while (at := self._next_fit(at, tokens, images)) < len(self._by_size):
            piece = self._take(at)
            row.append(piece)
            tokens, images = tokens - piece.tokens, images - piece.images
        self._count(row)
        return row

    def _next_fit(self, at: int, tokens: int, images: int) -> int:
        """Place of the first piece from `at` on that fits; budgets shrink, so none before it ever will."""
        by_size = self._by_size
        at = bisect_left(by_size, (-tokens,), at)
        while at < len(by_size) and by_size[at][2] > images:
            at += 1
        return at

    def _take(self, at: int) -> Piece:
        return self._waiting.pop(self._by_size.pop(at)[1])

    def _count(self, row: list[Piece]) -> None:
        self.stats.rows += 1
        self.stats.pieces += len(row)
        self.stats.tokens += sum(piece.tokens for piece in row)
        self.stats.images += sum(piece.images for piece in row)
        self.stats.token_budget += self.settings.row_tokens
        self.stats.image_budget += self.settings.row_images

    def state_dict(self) -> dict[str, Any]:
        """All that decides the next rows, as JSON values; an image, which later rows do not change."""
        stats = {name: getattr(self.stats, name) for name in PackStats.__slots__}
        return {"waiting": list(self._waiting.values()), "stats": stats}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        self._waiting, self._by_size, self._arrivals = {}, [], 0
        for numbers in state["waiting"]:
            self.push(Piece(*numbers))
        self.stats = PackStats(**state["stats"])
