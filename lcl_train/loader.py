"""Shards to packed batches, forever: shuffle, place, split, pack, decode. Its state is a few numbers.

Two halves: planning (which documents share a row; cheap, in order, all the state there is) and rendering
(pixels and tensors of a planned batch; dear, pure, in threads). So the batches depend on the seed alone, not
on the number of threads, and a run resumes at any batch exactly.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcl_data.shards import Sequence, Shards
from lcl_train.collate import Batch, Placed, collate
from lcl_train.holdout import held_out
from lcl_train.layout import INTERLEAVED, Draw, Layout, Part, lay_out, part_tokens
from lcl_train.pack import Packer, PackSettings, Piece
from lcl_train.transform import decode, random_crop
from schemas.errors import CheckpointError, ShardError


@dataclass(frozen=True, slots=True)
class Fitting:
    """What the loader must know of the model and the run.

    Attributes:
        rows: packed rows of a batch.
        pack: budgets of a row.
        slots: visual slots of an image.
        image_size: side of the square pictures in pixels.
        seed: of order, placement and crops.
        min_images: documents with fewer pictures are not drawn.
        holdout: share of the others that is held out (`lcl_train.holdout`).
        layout: what the objective wants to see of a document.
    """

    rows: int
    pack: PackSettings
    slots: int
    image_size: int
    seed: int
    min_images: int = 0
    holdout: float = 0.0
    layout: Layout = INTERLEAVED


class _Drawn(NamedTuple):
    """A document as drawn, in its parts."""

    parts: list[Part]
    document: Sequence
    epoch: int


class Loader:
    """Endless batches; a document is drawn once in each epoch, and epochs follow one another without a seam.

    A document is known by its draw: the n-th document of epoch e of N has the number e * N + n.

    Attributes:
        drawn: int64 [N], rows of the shards that are drawn: those with enough pictures, not held out.
        held: int64 [M], rows that are held out.
    """

    def __init__(
        self,
        shards: Shards,
        fitting: Fitting,
        workers: int,
        rows: NDArray[np.intp] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Nothing is read yet but sizes and ids.

        Args:
            shards: where documents come from.
            fitting: the sizes.
            workers: rendering threads; two batches ahead for each.
            rows: int64 [N], the rows of the shards to draw from; None: those that `fitting` asks for.
            rank: of this process among those that share each batch: it renders every `world`-th row.
            world: how many they are.

        Raises:
            ShardError: there are no documents.
        """
        has_enough = shards.image_counts >= fitting.min_images
        is_held = held_out(shards, has_enough, fitting.holdout)
        self.drawn = np.flatnonzero(has_enough & ~is_held) if rows is None else rows
        self.held = np.flatnonzero(is_held)
        if not len(self.drawn):
            raise ShardError(
                f"the training shards hold no documents with {fitting.min_images} pictures or more; "
                "look at the ledger of the stages before"
            )
        self.shards, self.fitting, self.workers = shards, fitting, workers
        self.rank, self.world = rank, world
        self.specials = shards.special_tokens
        self._packer = Packer(fitting.pack)
        self._draws = 0
        self._state = self._snapshot()

    def steps(self, epochs: float) -> int:
        """About how many batches the epochs fill: the tighter of the two budgets decides."""
        images = int(self.shards.image_counts[self.drawn].sum())
        tokens = int(self.shards.lengths[self.drawn].sum()) + images * (self.fitting.slots + 1)
        rows = max(tokens / self.fitting.pack.row_tokens, images / self.fitting.pack.row_images)
        return max(1, ceil(epochs * rows / self.fitting.rows))

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches from the present state on."""
        ahead: deque[tuple[dict[str, Any], Future[Batch]]] = deque()
        with ThreadPoolExecutor(self.workers, "loader") as pool:
            try:
                while True:
                    while len(ahead) < 2 * self.workers:
                        rows = [self._next_row() for _ in range(self.fitting.rows)]
                        own = rows[self.rank :: self.world]
                        ahead.append((self._snapshot(), pool.submit(self._render, own)))
                    self._state, batch = ahead[0][0], ahead.popleft()[1].result()
                    yield batch
            finally:
                pool.shutdown(cancel_futures=True)

    def once(self) -> Iterator[Batch]:
        """Every document of the first epoch one time; the last batch is short. The state stays as it is."""
        packer, rows = Packer(self.fitting.pack), []
        for draw in range(len(self.drawn)):
            for piece in self._pieces(draw):
                packer.push(piece)
            while packer.is_full:
                rows.append(packer.pop())
        while len(packer):
            rows.append(packer.pop())
        ahead: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(self.workers, "loader") as pool:
            for start in range(0, len(rows), self.fitting.rows):
                ahead.append(pool.submit(self._render, rows[start : start + self.fitting.rows]))
                if len(ahead) > 2 * self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def state_dict(self) -> dict[str, Any]:
        """Where the batch given last left the loader, as JSON values."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch at which `state_dict` was taken.

        Raises:
            CheckpointError: the state is of other shards or budgets, which are named.
        """
        here, there = self._identity, state["of"]
        differing = [name for name in here if here[name] != there.get(name)]
        if differing:
            wrong = "; ".join(f"{name} was {there.get(name)}, is {here[name]}" for name in differing)
            raise CheckpointError(f"the run cannot go on: {wrong}; restore these or begin a new folder")
        self._draws = int(state["draws"])
        self._packer.load_state_dict(state["packer"])
        self._state = state

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What must be the same for a state to mean the same."""
        return {
            **asdict(self.specials),
            "documents": len(self.drawn),
            "tokens": int(self.shards.lengths.sum()),
            "images": int(self.shards.image_counts.sum()),
            "seed": self.fitting.seed,
            "slots": self.fitting.slots,
            "min_images": self.fitting.min_images,
            "holdout": self.fitting.holdout,
            **self.fitting.pack.model_dump(),
            **asdict(self.fitting.layout),
        }

    def _snapshot(self) -> dict[str, Any]:
        return {"of": self._identity, "draws": self._draws, "packer": self._packer.state_dict()}

    def _next_row(self) -> list[Piece]:
        while not self._packer.is_full:
            for piece in self._pieces(self._draws):
                self._packer.push(piece)
            self._draws += 1
        return self._packer.pop()

    def _pieces(self, draw: int) -> Iterator[Piece]:
        """What the packer must know of a drawn document."""
        for number, part in enumerate(self._draw(draw).parts):
            tokens = part_tokens(part, self.specials, self.fitting.slots)
            yield Piece(draw, number, tokens, len(part.pictures))

    def _draw(self, draw: int) -> _Drawn:
        """The parts of a drawn document; made twice (plan, render), which is cheaper than keeping."""
        fitting = self.fitting
        document, epoch = self._document(draw)
        before = self._document(draw - 1)[0] if draw and fitting.layout.mismatches else None
        drawn = Draw(document, before, fitting.seed, epoch)
        parts = lay_out(drawn, fitting.layout, self.specials, fitting.slots, fitting.pack)
        return _Drawn(parts, document, epoch)

    def _document(self, draw: int) -> tuple[Sequence, int]:
        epoch, place_in_epoch = divmod(draw, len(self.drawn))
        order = _order(self.fitting.seed, epoch, len(self.drawn))
        return self.shards[int(self.drawn[order[place_in_epoch]])], epoch

    def _render(self, rows: list[list[Piece]]) -> Batch:
        drawn = [[(self._draw(piece.document), piece.part) for piece in row] for row in rows]
        side = self.fitting.image_size
        pixels = [
            self._pixels(each, int(image))
            for row in drawn
            for each, part in row
            for image in each.parts[part].pictures
        ]
        stacked = torch.stack(pixels) if pixels else torch.zeros((0, 3, side, side), dtype=torch.uint8)
        placed = [[_placed(each, part) for each, part in row] for row in drawn]
        row_tokens = self.fitting.pack.row_tokens
        return collate(placed, stacked, self.specials, self.fitting.slots, row_tokens)

    def _pixels(self, drawn: _Drawn, image: int) -> Tensor:
        document = drawn.document
        try:
            picture = decode(document.images[image])
        except OSError as error:
            raise ShardError(
                f"document {document.id}, image {image}: {error}; run lcl verify on the shards"
            ) from error
        return random_crop(
            picture, self.fitting.image_size, self.fitting.seed, drawn.epoch, document.id, image
        )


def _placed(drawn: _Drawn, number: int) -> Placed:
    part, document = drawn.parts[number], drawn.document
    keys = [document.image_keys[image] for image in part.pictures]
    return Placed(part, keys, document.id, document.source)


@lru_cache(maxsize=3)  # an epoch, the one after it (the look-ahead spans their seam), and what is held out
def _order(seed: int, epoch: int, documents: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(documents)
