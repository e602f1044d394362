"""What is brought to documents before filters judge them: the facts of the image store, scores of models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lcl_data.attach import Pixels, attach, attached
from lcl_data.draft import Draft
from lcl_data.engine import Engine
from lcl_data.exchange import answers_of
from lcl_data.frames import Frames
from lcl_data.measure import measure, place
from lcl_data.scores import Scores
from lcl_data.scoring import match, with_scores
from lcl_data.stage import Unit
from schemas.manifest import read_manifest


@dataclass(frozen=True, slots=True)
class Evidence:
    """Answers of exchanges, on disk.

    Attributes:
        pictures: what the store knows of each image item; None where no store was named.
        scores: the tables that `scored` was found in.
        scored: which score belongs to which item or document; None where no filter asks for one.
    """

    pictures: tuple[Path, ...] | None
    scores: Scores
    scored: tuple[Path, ...] | None

    def of_shard(self, number: int) -> "ShardEvidence":
        """What concerns the documents of one shard, in memory."""
        pictures, scored = (answers_of(a, number) if a else None for a in (self.pictures, self.scored))
        return ShardEvidence(pictures, self.scores, scored)


@dataclass(frozen=True, slots=True)
class ShardEvidence:
    """The part of the evidence that concerns one shard of documents."""

    pictures: pl.DataFrame | None
    scores: Scores
    scored: pl.DataFrame | None

    def brought_to(self, frames: Frames, draft: Draft) -> Frames:
        """The frames with all facts in their columns; images that the store lacks are rejected."""
        known = frames if self.pictures is None else attached(frames, self.pictures, draft)
        return known if self.scored is None else with_scores(known, self.scored, self.scores)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where evidence comes from.

    Attributes:
        images: image store, ours or img2dataset's; None if there is none.
        scores: tables of scores, and which of them are wanted.
        pixels: columns of `schemas.pixels.PIXELS` that are wanted of the stored pictures.
    """

    images: Path | None
    scores: Scores
    pixels: tuple[str, ...] = ()

    def gather(
        self, scratch: Callable[[str], Path], docs: Path, units: Sequence[Unit], engine: Engine
    ) -> Evidence:
        """Ask what is known of documents.

        Args:
            scratch: question -> folder of its exchange (see `exchange.scratch`).
            docs: stage folder of the documents.
            units: its shards; those that are torn (no payload) are not asked about.
            engine: where the exchanges run.

        Raises:
            RecipeError: tables of scores contradict each other.
            ShardError: a shard or a table of the store is torn; or a tar of it, where pixels are wanted.
        """
        ledger = read_manifest(docs).ledger
        sound = [unit for unit in units if unit.payload]
        pictures = scored = None
        if self.images:
            pixels = Pixels()
            if self.pixels:
                tables = measure(self.images, place(self.images, scratch), engine)
                pixels = Pixels(self.pixels, tuple(tables))
            found = attach(scratch("attach"), sound, self.images, ledger.images.kept, engine, pixels)
            pictures = tuple(found)
        if self.scores.names:
            rows = ledger.images.kept + ledger.documents.kept
            scored = tuple(match(scratch("score"), sound, self.scores, pictures, engine, rows))
        return Evidence(pictures, self.scores, scored)
