"""What a run knows of documents it never learns from: losses, retrieval, and whether text uses its images.

Documents, rows and crops are fixed by the shards and the settings, whatever seed and step. Every rank walks
over all of them, because sharded weights need all ranks in each pass: so the numbers are the same on any
number of ranks. The contrast is over one pool of pairs, so that batches of different sizes can be compared.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lcl_train import parallel
from lcl_train.by_source import by_source
from lcl_train.collate import Batch
from lcl_train.contrast import ContrastSettings, Pairs, bias_of, contrast
from lcl_train.diagnostics import (
    bits_per_byte,
    effective_rank,
    feature_std,
    infonce_bound,
    rivals_ahead,
)
from lcl_train.loader import Loader
from lcl_train.model import Outputs
from lcl_train.task import Task

POOL = 1024  # pairs that are told from one another
_ROWS = 4  # of a batch; only memory and rounding depend on it
_PROBED = 8  # batches in which images are exchanged and blanked
_SEED = 0  # of placement and crops: not the run's, so that runs can be compared
_GREY = 127


class Seen(NamedTuple):
    """What a network makes of a batch, on the host.

    Attributes:
        means: sum and count of each term but the contrast.
        nats: [L] of each target; [0] where nothing is told.
        pairs: what is contrasted; None: nothing.
        contrast: how.
        scale: log of the inverse temperature of the contrast.
        bias: of the contrast; None: it has none.
        visual: [N, width] mean visual token of each image.
    """

    means: dict[str, tuple[float, float]]
    nats: Tensor
    pairs: Pairs | None
    contrast: ContrastSettings
    scale: Tensor
    bias: Tensor | None
    visual: Tensor


def look(task: Task, outputs: Outputs, batch: Batch) -> Seen:
    """What to take from a forward pass in place of its loss."""
    model, terms = task.model, task.objective.terms(task.model, outputs, batch)
    bias, told = bias_of(model.heads), terms.means.get("generation")
    return Seen(
        means={name: (float(mean.sum), float(mean.n)) for name, mean in terms.means.items()},
        nats=torch.zeros(0) if told is None or told.each is None else told.each.cpu(),
        pairs=None if terms.pairs is None else Pairs(*(each.cpu() for each in terms.pairs)),
        contrast=terms.contrast,
        scale=model.logit_scale.detach().cpu().clone(),
        bias=None if bias is None else bias.detach().cpu().clone(),
        visual=outputs.visual[: batch.n_images].float().mean(1).cpu(),
    )


class Validation:
    """Walks over what a loader holds out; rates of its own, no state, no random number drawn."""

    def __init__(self, loader: Loader, task: Task, nbytes: Tensor | None, is_half: bool) -> None:
        """Nothing is read yet.

        Args:
            loader: of the run.
            task: of the run, as it is trained.
            nbytes: int64 [vocab_size], bytes of text of each token; None: not known.
            is_half: whether activations are bfloat16.
        """
        whole = replace(loader.fitting, holdout=0.0, weights=None, accumulate=1, rank=0, world=1)
        fitting = replace(whole, rows=_ROWS, seed=_SEED)
        self._loader = Loader(loader.shards, fitting, loader.workers, loader.held)
        self._task, self._nbytes, self._is_half = task, nbytes, is_half
        self._device = next(task.parameters()).device

    def __call__(self) -> dict[str, float]:
        """All that docs/training.md lists under `val/`, of the weights as they are."""
        findings = _Findings(self._nbytes)
        self._task.eval()
        with torch.no_grad(), _uncompiled():
            for number, batch in enumerate(self._loader.once()):
                seen = self._see(batch)
                findings.add(batch, seen)
                if number < _PROBED and len(seen.nats) and batch.n_images > 1:
                    for name, pixels in _exchanged(batch):
                        other = self._see(replace(batch, pixels=pixels))
                        findings.compare(name, batch, seen, other)
        self._task.train()
        parallel.let_go(self._task)
        return {f"val/{name}": value for name, value in findings.told(self._task.objective.weights).items()}

    def _see(self, batch: Batch) -> Seen:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_half):
            seen: Seen = self._task(batch.to(self._device), look)
        return seen


def _uncompiled() -> AbstractContextManager[object]:
    """No compilation for the shapes met here; where nothing has been compiled, not even its library."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _exchanged(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """The pictures of a batch, each in the place of another, and all blank."""
    shown = batch.pixels[: batch.n_images]
    rolled = shown.roll(batch.n_images // 2, 0)
    yield "shuffled", torch.cat([rolled, batch.pixels[batch.n_images :]])
    yield "blank", torch.full_like(batch.pixels, _GREY)


class _Findings:
    """What was found so far, on the host."""

    def __init__(self, nbytes: Tensor | None) -> None:
        self._nbytes = nbytes
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._nats: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._pairs: list[Pairs] = []
        self._pair_sources: list[str] = []
        self._visual: list[Tensor] = []

    def add(self, batch: Batch, seen: Seen) -> None:
        """Take note of a batch."""
        self._last = seen
        self._visual.append(seen.visual)
        for name, (total, n) in seen.means.items():
            self._add(name, total, n)
        if len(seen.nats):
            for source, share in by_source(batch, batch.label_position, seen.nats).items():
                self._add(f"generation/{source}", *share)
            self._nats.append(seen.nats)
            self._labels.append(batch.labels)
        if seen.pairs is not None:
            valid = seen.pairs.valid
            self._pairs.append(Pairs(*(each[valid] for each in seen.pairs)))
            owners = batch.segment_of(batch.pair_position[valid])
            self._pair_sources += [batch.sources[owner] for owner in owners.tolist()]

    def compare(self, name: str, batch: Batch, seen: Seen, other: Seen) -> None:
        """Take note of how much worse text is told with other images, where an image stands before it."""
        owners = batch.segment_of(batch.label_position)
        counted = batch.label_position > _first_slots(batch)[owners]
        worse = (other.nats.double() - seen.nats.double())[counted].sum()
        self._add(f"image_gain_{name}", float(worse), int(counted.sum()))

    def told(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Everything by name; nothing where the documents held out have nothing to tell."""
        found = {**self._means(), **self._of_pairs()}
        terms = [weight * found[name] for name, weight in weights.items() if name in found]
        if seen := [visual for visual in self._visual if len(visual)]:
            found |= _health("visual", torch.cat(seen))
        return {"total": sum(terms), **found} if terms else found

    def _add(self, name: str, total: float, n: float) -> None:
        self._sums[name][0] += total
        self._sums[name][1] += n

    def _means(self) -> dict[str, float]:
        means = {name: total / n for name, (total, n) in self._sums.items() if n}
        by_source = [name for name in means if name.startswith("generation/")]
        if len(by_source) == 1:
            del means[by_source[0]]  # it is the whole
        if self._nats and self._nbytes is not None:
            nats, nbytes = torch.cat(self._nats), self._nbytes[torch.cat(self._labels)]
            means["bits_per_byte"] = float(bits_per_byte(nats, nbytes))
        return means

    def _of_pairs(self) -> dict[str, float]:
        """What is found in the pool: pairs of all documents, evenly chosen where there are more."""
        if not self._pair_sources:
            return {}
        n = len(self._pair_sources)
        chosen = torch.linspace(0, n - 1, min(n, POOL), dtype=torch.float64).round().long()
        pool = Pairs(*(torch.cat(each)[chosen] for each in zip(*self._pairs, strict=True)))
        ahead = rivals_ahead(pool.contexts, pool.latents, pool.keys)
        sources = [self._pair_sources[k] for k in chosen.tolist()]
        return {
            "pool": float(len(chosen)),
            **_contrasted(pool, self._last, sources),
            **_recalls(ahead, sources),
            **_health("latent", pool.latents),
        }


def _contrasted(pool: Pairs, seen: Seen, sources: Sequence[str]) -> dict[str, float]:
    """The contrast of a pool that all ranks have: each takes a share of its rows."""
    own = slice(parallel.rank(), None, parallel.world())
    found = contrast(Pairs(*(each[own] for each in pool)), seen.contrast, seen.scale, seen.bias)
    names, counts = zip(*sorted(Counter(sources).items()), strict=True)
    owners = torch.tensor([names.index(source) for source in sources[own]], dtype=torch.int64)
    sums = torch.bincount(owners, found.losses, len(names))
    sums = parallel.all_sum(torch.cat([torch.stack([found.loss, found.log_candidates]), sums]))
    loss, log_candidates, *means = sums / torch.tensor([len(sources), len(sources), *counts])
    told = {"contrastive": float(loss)}
    if len(names) > 1:
        told |= {f"contrastive/{name}": float(mean) for name, mean in zip(names, means, strict=True)}
    if seen.contrast.kind == "softmax":
        told["bound"] = float(infonce_bound(loss, log_candidates))
    return told


def _recalls(ahead: Tensor, sources: Sequence[str]) -> dict[str, float]:
    """Recall of all and, where there are several, of each source; [P] rivals ahead of the own image."""
    recalls = {f"recall_at_{k}": float((ahead < k).double().mean()) for k in (1, 5)}
    for source in sorted({*sources}) if len({*sources}) > 1 else ():
        own = ahead[torch.tensor([name == source for name in sources])]
        recalls[f"recall_at_1/{source}"] = float((own < 1).double().mean())
    return recalls


def _health(name: str, features: Tensor) -> dict[str, float]:
    """Signs of collapse; SVD wants no more rows than it takes."""
    some = features[:: max(1, len(features) // POOL)]
    return {f"{name}_rank": float(effective_rank(some)), f"{name}_std": float(feature_std(some))}


def _first_slots(batch: Batch) -> Tensor:
    """The flat place of the first visual slot of each segment; beyond the batch where it has none."""
    places = torch.nonzero(batch.visual_index >= 0).flatten()
    first = torch.full((len(batch.segments.lengths),), len(batch.tokens))
    return first.scatter_reduce(0, batch.segment_of(places), places, "amin")
