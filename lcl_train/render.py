"""Planned rows to batches: documents read, laid out, their pictures decoded and cropped, in threads.

All of it is pure: a piece of a plan gives the same pixels and tokens on any rank and in any thread. Decoding
and resampling do not hold the interpreter's lock, so threads do what processes would, without their copies.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lcl_data.shards import Sequence, Shards
from lcl_train.collate import Batch, Placed, collate
from lcl_train.layout import INTERLEAVED, Draw, Layout, Part, lay_out
from lcl_train.pack import PackSettings, Piece
from lcl_train.transform import decode, random_crop
from schemas.errors import ShardError


@dataclass(frozen=True, slots=True)
class Fitting:
    """What the loader must know of the model and the run.

    Attributes:
        rows: packed rows of a step, over all ranks.
        pack: budgets of a row.
        slots: visual slots of an image.
        image_size: side of the square pictures in pixels.
        seed: of order, placement and crops.
        min_images: documents with fewer pictures are not drawn.
        holdout: share of the others that is held out (`lcl_train.holdout`).
        layout: what the objective wants to see of a document.
        weights: of the folders of shards in the documents drawn; None: all folders are one corpus.
        accumulate: batches that share the rows of a step.
        rank: number of this process.
        world: how many processes there are; rank r renders the rows r, r + world, ... of a batch.
        pinned: batches lie in page-locked memory, from where a GPU fetches them without anyone waiting.
    """

    rows: int
    pack: PackSettings
    slots: int
    image_size: int
    seed: int
    min_images: int = 0
    holdout: float = 0.0
    layout: Layout = INTERLEAVED
    weights: tuple[float, ...] | None = None
    accumulate: int = 1
    rank: int = 0
    world: int = 1
    pinned: bool = False


class Plan(NamedTuple):
    """The rows of a batch, and where its step leaves the loader."""

    rows: list[list[Piece]]
    state: dict[str, Any]


class _Picture(NamedTuple):
    """A picture of a document, which is a row of the shards, drawn in an epoch."""

    row: int
    document: Sequence
    epoch: int
    image: int


class _Laid(NamedTuple):
    """Rows without their pictures.

    Attributes:
        rows: what is in each.
        pixels: uint8 [N, 3, side, side], to be filled.
        pictures: of each row, with what.
    """

    rows: list[list[Placed]]
    pixels: Tensor
    pictures: list[list[_Picture]]

    def shares(self) -> Iterator[tuple[Tensor, list[_Picture]]]:
        """The room of each row and its pictures; none of rows that have no pictures."""
        rooms = torch.split(self.pixels, [len(each) for each in self.pictures])
        return ((room, each) for room, each in zip(rooms, self.pictures, strict=True) if each)


class Renderer:
    """Makes the batches of one rank."""

    def __init__(self, shards: Shards, fitting: Fitting, workers: int) -> None:
        """Nothing is read yet.

        Args:
            shards: where documents come from.
            fitting: the sizes.
            workers: threads; 0: the caller's.
        """
        self.shards, self.fitting, self.workers = shards, fitting, workers
        self.specials = shards.special_tokens

    def batches(self, plans: Iterator[Plan]) -> Generator[tuple[dict[str, Any], Batch], None, None]:
        """Batches of planned rows, in order; threads work two batches ahead, more where these are small.

        A thread takes the pictures of a row, not of a batch: so all of them work on the first.
        """
        if not self.workers:
            yield from ((plan.state, self._render(plan.rows)) for plan in plans)
            return
        ahead: deque[tuple[dict[str, Any], Future[Future[Batch]]]] = deque()
        most = max(
            2, ceil(2 * self.workers * self.fitting.world * self.fitting.accumulate / self.fitting.rows)
        )
        with ThreadPoolExecutor(self.workers, "loader") as pool:
            try:
                for plan in plans:
                    ahead.append((plan.state, pool.submit(self._submit, pool, plan.rows)))
                    if len(ahead) > most:
                        state, batch = ahead.popleft()
                        yield state, batch.result().result()
                yield from ((state, batch.result().result()) for state, batch in ahead)
            finally:
                pool.shutdown(cancel_futures=True)

    def lay_out(self, row: int, before: int, epoch: int) -> tuple[Sequence, list[Part]]:
        """A document and its parts; made twice (plan, render), which is cheaper than keeping."""
        fitting, document = self.fitting, self.shards[row]
        other = self.shards[before] if before >= 0 and fitting.layout.mismatches else None
        draw = Draw(document, other, fitting.seed, epoch)
        return document, lay_out(draw, fitting.layout, self.specials, fitting.slots, fitting.pack)

    def _submit(self, pool: ThreadPoolExecutor, rows: list[list[Piece]]) -> "Future[Batch]":
        """The batch, which waits in the pool for pictures that the pool was given before it."""
        laid = self._lay_rows(rows)
        waiting = [pool.submit(self._fill, *each) for each in laid.shares()]

        def join() -> Batch:
            for each in waiting:
                each.result()
            return self._join(laid)

        return pool.submit(join)

    def _render(self, rows: list[list[Piece]]) -> Batch:
        laid = self._lay_rows(rows)
        for each in laid.shares():
            self._fill(*each)
        return self._join(laid)

    def _lay_rows(self, rows: list[list[Piece]]) -> _Laid:
        """This rank's rows (at least an empty one), all laid out before one picture of them is decoded.

        Decoding empties the processor's caches: in turn with it, this takes nearly twice as long.
        """
        placed: list[list[Placed]] = []
        pictures: list[list[_Picture]] = []
        for row in rows[self.fitting.rank :: self.fitting.world] or [[]]:
            placed.append([])
            pictures.append([])
            for piece in row:
                document, parts = self.lay_out(piece.row, piece.before, piece.epoch)
                part = parts[piece.part]
                images = part.pictures.tolist()
                keys = [document.image_keys[image] for image in images]
                placed[-1].append(Placed(part, keys, document.id, document.source))
                pictures[-1] += [_Picture(piece.row, document, piece.epoch, image) for image in images]
        shape = sum(map(len, pictures)), 3, self.fitting.image_size, self.fitting.image_size
        pixels = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        return _Laid(placed, pixels, pictures)

    def _join(self, laid: _Laid) -> Batch:
        row_tokens = self.fitting.pack.row_tokens
        batch = collate(laid.rows, laid.pixels, self.specials, self.fitting.slots, row_tokens)
        return batch.pin_memory() if self.fitting.pinned else batch

    def _fill(self, room: Tensor, pictures: list[_Picture]) -> None:
        for square, picture in zip(room, pictures, strict=True):
            square.copy_(self._square(*picture))

    def _square(self, row: int, document: Sequence, epoch: int, image: int) -> Tensor:
        try:
            picture = decode(document.images[image])
        except OSError as error:
            raise ShardError(
                f"{self.shards.path_of(row)}: document {document.id}, image {image}: {error}; run "
                "`lcl verify` on the shards"
            ) from error
        return random_crop(picture, self.fitting.image_size, self.fitting.seed, epoch, document.id, image)
