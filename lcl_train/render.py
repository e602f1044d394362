"""Planned rows to batches: documents read, laid out, their pictures decoded and cropped, in threads.

All of it is pure: a piece of a plan gives the same pixels and tokens on any rank and in any thread. Decoding
and resampling do not hold the interpreter's lock, so threads do what processes would, without their copies.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
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

        A thread takes a row, not a batch: so all of them work on the first.
        """
        if not self.workers:
            yield from ((plan.state, self._render(plan.rows)) for plan in plans)
            return
        ahead: deque[tuple[dict[str, Any], Future[Batch]]] = deque()
        most = max(
            2, ceil(2 * self.workers * self.fitting.world * self.fitting.accumulate / self.fitting.rows)
        )
        with ThreadPoolExecutor(self.workers, "loader") as pool:
            try:
                for plan in plans:
                    ahead.append((plan.state, self._submit(pool, plan.rows)))
                    if len(ahead) > most:
                        state, batch = ahead.popleft()
                        yield state, batch.result()
                yield from ((state, batch.result()) for state, batch in ahead)
            finally:
                pool.shutdown(cancel_futures=True)

    def lay_out(self, row: int, before: int, epoch: int) -> tuple[Sequence, list[Part]]:
        """A document and its parts; made twice (plan, render), which is cheaper than keeping."""
        fitting, document = self.fitting, self.shards[row]
        other = self.shards[before] if before >= 0 and fitting.layout.mismatches else None
        draw = Draw(document, other, fitting.seed, epoch)
        return document, lay_out(draw, fitting.layout, self.specials, fitting.slots, fitting.pack)

    def _submit(self, pool: ThreadPoolExecutor, rows: list[list[Piece]]) -> "Future[Batch]":
        """The batch waits in the pool for its rows, which the pool was given before it."""
        pixels, mine = self._blank(rows)
        waiting = [pool.submit(self._render_row, *each) for each in mine]
        return pool.submit(lambda: self._join([each.result() for each in waiting], pixels))

    def _render(self, rows: list[list[Piece]]) -> Batch:
        pixels, mine = self._blank(rows)
        return self._join([self._render_row(*each) for each in mine], pixels)

    def _blank(self, rows: list[list[Piece]]) -> tuple[Tensor, list[tuple[list[Piece], Tensor]]]:
        """Room for the pictures of this rank's rows (at least an empty one), each with its share of it."""
        mine, side = rows[self.fitting.rank :: self.fitting.world] or [[]], self.fitting.image_size
        bounds = list(accumulate((sum(piece.images for piece in row) for row in mine), initial=0))
        shape = bounds[-1], 3, side, side
        pixels = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        return pixels, [(row, pixels[slice(*each)]) for row, each in zip(mine, pairwise(bounds), strict=True)]

    def _join(self, placed: list[list[Placed]], pixels: Tensor) -> Batch:
        row_tokens = self.fitting.pack.row_tokens
        batch = collate(placed, pixels, self.specials, self.fitting.slots, row_tokens)
        return batch.pin_memory() if self.fitting.pinned else batch

    def _render_row(self, row: list[Piece], pixels: Tensor) -> list[Placed]:
        placed, at = [], 0
        for piece in row:
            document, parts = self.lay_out(piece.row, piece.before, piece.epoch)
            part = parts[piece.part]
            for image in part.pictures.tolist():
                pixels[at] = self._square(document, piece.epoch, image)
                at += 1
            keys = [document.image_keys[image] for image in part.pictures]
            placed.append(Placed(part, keys, document.id, document.source))
        return placed

    def _square(self, document: Sequence, epoch: int, image: int) -> Tensor:
        try:
            picture = decode(document.images[image])
        except OSError as error:
            raise ShardError(
                f"document {document.id}, image {image}: {error}; run lcl verify on the shards"
            ) from error
        return random_crop(picture, self.fitting.image_size, self.fitting.seed, epoch, document.id, image)
