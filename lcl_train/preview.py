"""The first rows that a run would learn from, without the run: no weight is made, nothing is written."""

from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import torch

from lcl_data.shards import Shards, SpecialTokens
from lcl_train.collate import Batch
from lcl_train.loader import Loader
from lcl_train.model import LCLModel
from lcl_train.pack import PackStats
from lcl_train.run import find_objective, fitting_of
from lcl_train.settings import Train
from schemas.members import key

_REHEARSED = 512  # rows


class Preview(NamedTuple):
    """What the trainer would see first.

    Attributes:
        preset: of the network.
        objective: what it would be trained for.
        batch: its first rows.
        stats: of the packer, over more rows than the batch has.
        specials: ids of the tokens that are no text.
        row_tokens: positions of a row.
        slots: of them, for a picture.
    """

    preset: str
    objective: str
    batch: Batch
    stats: PackStats
    specials: SpecialTokens
    row_tokens: int
    slots: int


def preview(shards: Shards, settings: Train, most: int) -> Preview:
    """Render the first rows of the first step.

    Args:
        shards: that a run would read.
        settings: all that would decide it.
        most: rows at most.

    Raises:
        RecipeError: settings that do not fit one another or the shards.
        ShardError: shards that are torn, or hold nothing to draw.
    """
    specials = shards.special_tokens
    with torch.device("meta"):
        model = LCLModel(settings.model_settings(specials.vocab_size))
    fitting = replace(fitting_of(settings, model), rows=min(settings.rows, most), accumulate=1)
    loader = Loader(shards, fitting, settings.workers)
    stats, _ = loader.rehearse(_REHEARSED)
    with closing(iter(loader)) as batches:
        batch = next(batches)
    return Preview(
        preset=settings.preset,
        objective=key(find_objective(settings)),
        batch=batch,
        stats=stats,
        specials=specials,
        row_tokens=settings.pack.row_tokens,
        slots=model.slots,
    )
