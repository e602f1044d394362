"""Losses by the source of their documents: sums and counts, so that they add up to the loss of the whole."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lcl_train import parallel
from lcl_train.collate import Batch

_PLACES = {"generation": "label_position", "contrastive": "pair_position"}
Shares = dict[str, tuple[float, int]]


def by_source(batch: Batch, places: Tensor, losses: Tensor) -> Shares:
    """Sum and number of the losses of each source.

    Args:
        batch: on the host.
        places: int64 [L], the flat place of each loss.
        losses: [L], on any device.
    """
    names = sorted({*batch.sources})
    number = {name: at for at, name in enumerate(names)}
    owners = torch.tensor([number[name] for name in batch.sources])[batch.segment_of(places)]
    counts = torch.bincount(owners, minlength=len(names)).tolist()
    sums = torch.bincount(owners, losses.double().cpu(), len(names)).tolist()
    return {name: (total, n) for name, total, n in zip(names, sums, counts, strict=True) if n}


def means_by_source(batches: Sequence[Batch], each: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean loss of each source in a step as `term/source`, where a term has several; all ranks must ask.

    Args:
        batches: micro-batches of this rank, on the host.
        each: the losses of their targets (`generation`) and pairs (`contrastive`), on any device.
    """
    added = parallel.everyones({term: _added(batches, term, losses) for term, losses in each.items()})
    found = {term: _sum([shares[term] for shares in added]) for term in each}
    return {
        f"{term}/{source}": total / n
        for term, shares in found.items()
        if len(shares) > 1
        for source, (total, n) in sorted(shares.items())
    }


def _added(batches: Sequence[Batch], term: str, losses: Tensor) -> Shares:
    places = [getattr(batch, _PLACES[term]) for batch in batches]
    split = torch.split(losses, [len(each) for each in places])
    return _sum([by_source(*each) for each in zip(batches, places, split, strict=True)])


def _sum(parts: Sequence[Shares]) -> Shares:
    found: Shares = defaultdict(lambda: (0.0, 0))
    for part in parts:
        for source, (total, n) in part.items():
            found[source] = found[source][0] + total, found[source][1] + n
    return dict(found)
