"""Shards to packed batches, forever: draw, place, split, pack, decode. Its state is a few numbers.

Two halves: planning (which documents share a row; cheap, from sizes, in order, all the state there is) and
rendering (pixels and tensors of the rows of this rank; dear, pure, in threads). Every rank plans the rows of
all. So the batches depend on the seed alone, not on ranks or threads, and a run resumes at any batch exactly,
on any number of them.
"""

from collections.abc import Generator, Iterator
from dataclasses import asdict
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcl_data.shards import Shards
from lcl_train.collate import Batch
from lcl_train.draws import Drawn, Ints, Mixture, Source
from lcl_train.holdout import documents_of, held_out
from lcl_train.layout import part_tokens
from lcl_train.pack import Packer, PackStats, Piece
from lcl_train.render import Fitting, Plan, Renderer
from schemas.errors import CheckpointError, RecipeError, ShardError

__all__ = ["Fitting", "Loader"]

_SAMPLE = 4096  # documents packed to learn how many rows they take


class Loader:
    """Endless batches; a document is drawn once in each epoch, and epochs follow one another without a seam.

    Attributes:
        held: int64 [M], rows of the shards that are held out.
        documents: of an epoch; by a sample where a source has more than a window of shards.
    """

    def __init__(self, shards: Shards, fitting: Fitting, workers: int, rows: Ints | None = None) -> None:
        """Nothing is read yet but sizes and ids of some shards.

        Args:
            shards: where documents come from.
            fitting: the sizes.
            workers: rendering threads; 0: the caller's.
            rows: int64 [N], the rows of the shards to draw from; None: those that `fitting` asks for.

        Raises:
            ShardError: there are no documents.
            RecipeError: more ranks than rows, or weights that are not one for each folder.
        """
        if fitting.world * fitting.accumulate > fitting.rows:
            raise RecipeError(
                f"rows {fitting.rows}: {fitting.world} ranks need one each for every of their "
                f"{fitting.accumulate} micro-batches; raise it, or lower accumulate"
            )
        self.shards, self.fitting, self.workers = shards, fitting, workers
        self.specials = shards.special_tokens
        self._renderer = Renderer(shards, fitting, workers)
        self.held = held_out(shards, fitting.min_images, fitting.holdout)
        self._held_documents = np.unique(documents_of(shards, self.held))
        self._only = None if rows is None else np.sort(rows)
        self._draws = Mixture(self._sources(), fitting.weights or (1.0,))
        self._samples = [source.sample() for source in self._draws.sources]
        for source, (_, documents) in enumerate(self._samples):
            if not documents:
                raise ShardError(self._nothing_in(source))
        self.documents = round(sum(documents for _, documents in self._samples))
        self._packer = Packer(fitting.pack)
        self._before = -1
        self._state = self._snapshot()

    def steps(self, epochs: float) -> int:
        """About how many batches the epochs fill, by packing a sample of the documents.

        An epoch draws as many documents as all sources have, whatever their weights.
        """
        rows_a_document = [self._rows_for(sample) for sample, _ in self._samples]
        rows: float = self.documents * np.dot(self._draws.weights, rows_a_document)
        return max(1, ceil(epochs * rows / self.fitting.rows - 1e-6))

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches from the present state on."""
        self.load_state_dict(self._state)  # what another iteration planned ahead was not given
        for state, batch in self._renderer.batches(self._plans()):
            self._state = state
            yield batch

    def once(self) -> Iterator[Batch]:
        """Every document of the first epoch one time; the last batch is short. The state stays as it is."""
        rows, packer = [], Packer(self.fitting.pack)
        for piece in self.pieces():
            packer.push(piece)
            while packer.is_full:
                rows.append(packer.pop())
        while len(packer):
            rows.append(packer.pop())
        n = self.fitting.rows
        plans = (Plan(rows[start : start + n], {}) for start in range(0, len(rows), n))
        return (batch for _, batch in self._renderer.batches(plans))

    def pieces(self) -> Iterator[Piece]:
        """What is packed in the first epoch, in the order of the draws; the state stays as it is."""
        before = -1
        for source in self._draws.sources:
            for drawn in source.epoch():
                yield from self._pieces(drawn, before)
                before = drawn.row

    def rehearse(self, rows: int) -> tuple[PackStats, int]:
        """What the next rows hold, and how many documents begin in them; the state stays as it is."""
        given = self._state
        self.load_state_dict(given)
        self._packer.stats = PackStats()
        starts = sum(piece.part == 0 for _ in range(rows) for piece in self._next_row())
        stats = self._packer.stats
        self.load_state_dict(given)
        return stats, starts

    def state_dict(self) -> dict[str, Any]:
        """Where the batch given last left the loader, as JSON values."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch at which `state_dict` was taken, by whatever ranks and threads.

        Raises:
            CheckpointError: the state is of other shards or budgets, which are named.
        """
        here, there = self._identity, state["of"]
        differing = [name for name in here if here[name] != there.get(name)]
        if differing:
            wrong = "; ".join(f"{name} was {there.get(name)}, is {here[name]}" for name in differing)
            raise CheckpointError(f"the run cannot go on: {wrong}; restore these or begin a new folder")
        self._draws.load_state_dict(state["draws"])
        self._packer.load_state_dict(state["packer"])
        self._before = int(state["before"])
        self._state = state

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What must be the same for a state to mean the same."""
        return {
            **asdict(self.specials),
            "documents": len(self.shards),
            "shards": self.shards.digest,
            "rows": self.fitting.rows,
            "seed": self.fitting.seed,
            "slots": self.fitting.slots,
            "min_images": self.fitting.min_images,
            "holdout": self.fitting.holdout,
            "weights": self.fitting.weights and list(self.fitting.weights),
            **self.fitting.pack.model_dump(),
            **asdict(self.fitting.layout),
        }

    def _snapshot(self) -> dict[str, Any]:
        draws, packer = self._draws.state_dict(), self._packer.state_dict()
        return {"of": self._identity, "draws": draws, "before": self._before, "packer": packer}

    def _sources(self) -> list[Source]:
        """One of all shards, or one of each folder where they have weights."""
        shards, seed = self.shards, self.fitting.seed
        if self._only is not None:
            numbers = np.unique(np.searchsorted(shards.starts, self._only, "right") - 1)
            return [Source(shards, numbers, self._is_drawn, (seed, 0))]
        if self.fitting.weights is None:
            return [Source(shards, np.arange(len(shards.paths)), self._is_drawn, (seed, 0))]
        folders = [np.array(shards.files_of(number)) for number in range(len(shards.folders))]
        return [Source(shards, files, self._is_drawn, (seed, n)) for n, files in enumerate(folders)]

    def _nothing_in(self, source: int) -> str:
        folders = self.shards.folders if self.fitting.weights is None else self.shards.folders[source:][:1]
        return (
            f"{', '.join(map(str, folders))}: no document with {self.fitting.min_images} pictures or more is "
            f"left to draw ({len(self.held)} of the corpus are held out); look at the ledger of the stages "
            "before, lower min_images, set holdout=0, or leave the folder out"
        )

    def _is_drawn(self, rows: Ints, images: Ints) -> NDArray[np.bool_]:
        if self._only is not None:
            return np.isin(rows, self._only)
        is_drawn = images >= self.fitting.min_images
        if len(self.held):
            is_drawn &= ~np.isin(documents_of(self.shards, rows), self._held_documents)
        return is_drawn

    def _rows_for(self, sample: Ints) -> float:
        """Rows that a document of a sample takes, empty places included."""
        packer, some = Packer(self.fitting.pack), sample[:_SAMPLE].tolist()
        for drawn in (Drawn(*fields) for fields in some):
            for piece in self._pieces(drawn, drawn.row):
                packer.push(piece)
            while packer.is_full:
                packer.pop()
        while len(packer):
            packer.pop()
        return packer.stats.rows / len(some)

    def _plans(self) -> Iterator[Plan]:
        """The rows of one step after the other, dealt out to its batches."""
        while True:
            rows = [self._next_row() for _ in range(self.fitting.rows)]
            state, batches = self._snapshot(), self.fitting.accumulate
            yield from (Plan(rows[first::batches], state) for first in range(batches))

    def _next_row(self) -> list[Piece]:
        idle = 0
        while not self._packer.is_full:
            drawn = self._draws.next()
            pieces = list(self._pieces(drawn, self._before))
            for piece in pieces:
                self._packer.push(piece)
            self._before, idle = drawn.row, 0 if pieces else idle + 1
            if idle > len(self.shards):
                raise ShardError(
                    "no picture of the training shards has a text to be paired with; "
                    "take an objective that learns from whole documents"
                )
        return self._packer.pop()

    def _pieces(self, drawn: Drawn, before: int) -> Iterator[Piece]:
        """What the packer must know of a document; it is read only where its sizes do not say it."""
        fitting, pack = self.fitting, self.fitting.pack
        tokens = drawn.tokens + drawn.images * (fitting.slots + 1)
        fits = tokens <= pack.longest and drawn.images <= pack.row_images
        if fits and fitting.layout.kind == "interleaved":
            yield Piece(drawn.row, before, drawn.epoch, 0, tokens, drawn.images)
            return
        for number, part in enumerate(self._renderer.lay_out(drawn.row, before, drawn.epoch)[1]):
            tokens = part_tokens(part, self.shards.special_tokens, fitting.slots)
            yield Piece(drawn.row, before, drawn.epoch, number, tokens, len(part.pictures))
