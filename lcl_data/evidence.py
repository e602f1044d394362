"""What is brought to documents before filters judge them: the facts of the image store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lcl_data.attach import attach, attached
from lcl_data.draft import Draft
from lcl_data.engine import Engine
from lcl_data.exchange import answers_of
from lcl_data.frames import Frames
from lcl_data.stage import Unit
from schemas.manifest import read_manifest


@dataclass(frozen=True, slots=True)
class Evidence:
    """Answers of exchanges, on disk.

    Attributes:
        pictures: what the store knows of each image item; None where no store was named.
    """

    pictures: tuple[Path, ...] | None = None

    def of_shard(self, number: int) -> "ShardEvidence":
        """What concerns the documents of one shard, in memory."""
        return ShardEvidence(answers_of(self.pictures, number) if self.pictures else None)


@dataclass(frozen=True, slots=True)
class ShardEvidence:
    """The part of the evidence that concerns one shard of documents."""

    pictures: pl.DataFrame | None

    def brought_to(self, frames: Frames, draft: Draft) -> Frames:
        """The frames with all facts in their columns; images that the store lacks are rejected."""
        return frames if self.pictures is None else attached(frames, self.pictures, draft)


def gather(
    scratch: Callable[[str], Path], docs: Path, units: Sequence[Unit], images: Path | None, engine: Engine
) -> Evidence:
    """Ask what is known of the documents.

    Args:
        scratch: question -> folder of its exchange (see `exchange.scratch`).
        docs: stage folder of the documents.
        units: its shards; those that are torn (no payload) are not asked about.
        images: image store.
        engine: where the exchanges run.

    Raises:
        ShardError: a shard or a table of the store is torn.
    """
    if images is None:
        return Evidence()
    sound = [unit for unit in units if unit.payload]
    references = read_manifest(docs).ledger.images.kept
    return Evidence(tuple(attach(scratch("attach"), sound, images, references, engine)))
