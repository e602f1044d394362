"""The contrast: which image belongs to which context, among the pairs of all ranks.

Each rank scores its own pairs against everybody's and returns sums, never means: divided by the number of
pairs on all ranks they add up to the exact loss of the whole batch, however unequal the ranks are. (A mean of
the ranks' means, as the reference implementation takes, weighs a rank of few images as much as one of many.)
"""

from functools import partial
from math import log
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lcl_train import parallel
from schemas.recipe import Settings

# Where the logarithm of the logits' scale begins: the reference implementation's value, and SigLIP's.
_BEGINNING = {"softmax": log(1 / 0.07), "sigmoid": log(10)}


class Pairs(NamedTuple):
    """P candidate pairs of an image and the context that should foretell it.

    Attributes:
        latents: [P, width] of the images, of any length.
        contexts: [P, width], of any length.
        keys: int64 [P], equal for copies of one picture.
        context_ids: int64 [P], equal for contexts that read the same.
        valid: bool [P]; a pair that is not is padding: it learns nothing and is nobody's negative.
    """

    latents: Tensor
    contexts: Tensor
    keys: Tensor
    context_ids: Tensor
    valid: Tensor


class Contrasted(NamedTuple):
    """Sums over the pairs of this rank, fp32 scalars on its device, and the loss of each.

    Attributes:
        loss: with a graph, even where there are no pairs.
        images_found: contexts whose image scored highest among the images of all ranks.
        contexts_found: images whose context scored highest among the contexts of all ranks.
        log_candidates: logarithm of how many each pair was told from, itself included: the `log N` of bounds.
        n: pairs.
        losses: [P] of each pair, without a graph.
    """

    loss: Tensor
    images_found: Tensor
    contexts_found: Tensor
    log_candidates: Tensor
    n: Tensor
    losses: Tensor


class ContrastSettings(Settings):
    """Which loss tells pairs apart.

    softmax: the paper's symmetric InfoNCE. sigmoid: each image and context judged alone, as in SigLIP
    (arXiv 2303.15343), with a learnt bias besides the temperature.
    """

    kind: Literal["softmax", "sigmoid"] = Field("softmax", description="softmax (the paper) or sigmoid")
    mask_copies: bool = Field(
        True, description="copies of one picture, and pairs of one context, are no negatives of each other"
    )
    tile: int = Field(1 << 24, gt=0, description="logits in memory at once; more are recomputed")


class Bias(nn.Module):
    """What the sigmoid adds to its logits, because nearly all of an image's contexts are wrong (SigLIP)."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([-10.0]))


def bias_of(heads: nn.ModuleDict) -> Tensor | None:
    """The bias among the heads of a model, if it has one."""
    return next((head.value for head in heads.values() if isinstance(head, Bias)), None)


@torch.no_grad()
def begin(settings: ContrastSettings, logit_scale: Tensor) -> None:
    """Set the temperature to where this kind of contrast begins."""
    logit_scale.fill_(_BEGINNING[settings.kind])


def contrast(
    pairs: Pairs, settings: ContrastSettings, logit_scale: Tensor, bias: Tensor | None = None
) -> Contrasted:
    """Score the pairs of this rank against those of all ranks, in fp32 whatever autocast says.

    Args:
        pairs: of this rank.
        settings: the kind of loss.
        logit_scale: [1], log of the inverse temperature.
        bias: [1], added to the logits of the sigmoid; None: 0.
    """
    with torch.autocast(pairs.latents.device.type, enabled=False):
        latents, contexts = (functional.normalize(x.float(), dim=-1) for x in pairs[:2])
        here = Pairs(latents, contexts, *pairs[2:])
        everyone, first = _gather(here)
        own = torch.arange(first, first + len(here.valid), device=here.valid.device)
        temper = logit_scale.float().exp(), 0 if bias is None else bias.float()
        rows = max(1, settings.tile // len(everyone.valid))
        tiles = zip(*(torch.split(x, rows) for x in (*here, own)), strict=True)
        score = _score if len(own) <= rows else partial(checkpoint, _score, use_reentrant=False)
        found = torch.cat([score(settings, Pairs(*tile), own, everyone, temper) for *tile, own in tiles], 1)
    _, contexts_found, images_found, log_candidates = found.detach().sum(1).unbind()
    n, losses = here.valid.sum().float(), found[0]
    return Contrasted(losses.sum(), images_found, contexts_found, log_candidates, n, losses.detach())


def _gather(here: Pairs) -> tuple[Pairs, int]:
    """Pairs of all ranks, each rank's filled up to one length, and where those of this rank begin."""
    most = max(1, parallel.largest(len(here.valid)))
    missing = most - len(here.valid)
    features = torch.cat([here.latents, here.contexts], dim=1)
    facts = torch.stack([here.keys, here.context_ids, here.valid.long()], dim=1)
    features, facts = (
        parallel.gather_rows(functional.pad(rows, (0, 0, 0, missing))) for rows in (features, facts)
    )
    latents, contexts = features.chunk(2, dim=1)
    keys, context_ids, valid = facts.unbind(1)
    return Pairs(latents, contexts, keys, context_ids, valid.bool()), most * parallel.rank()


def _score(
    settings: ContrastSettings, rows: Pairs, own: Tensor, everyone: Pairs, temper: tuple[Tensor, Tensor | int]
) -> Tensor:
    """Of each row against all columns, [4, rows]: loss, contexts found, images found, log of candidates.

    Args:
        settings: the kind of loss.
        rows: some pairs of this rank.
        own: [rows] their columns.
        everyone: the pairs of all ranks.
        temper: scale and bias of the logits.
    """
    scale, bias = temper
    is_own = own[:, None] == torch.arange(len(everyone.valid), device=own.device)
    counts = everyone.valid.expand_as(is_own)
    if settings.mask_copies:
        is_copy = rows.keys[:, None] == everyone.keys
        counts = counts & ~is_copy & (rows.context_ids[:, None] != everyone.context_ids)
    counts = counts | is_own  # in a row of padding too: a row of -inf alone would be NaN
    to_contexts = scale * rows.latents @ everyone.contexts.T
    to_images = scale * rows.contexts @ everyone.latents.T
    candidates = [logits.masked_fill(~counts, float("-inf")) for logits in (to_contexts, to_images)]
    if settings.kind == "softmax":
        there, back = (functional.cross_entropy(logits, own, reduction="none") for logits in candidates)
        losses = (there + back) / 2
    else:  # each image against each context once: the other direction's logits are the same
        biased = to_contexts + bias
        signed = torch.where(is_own, biased, -biased)
        losses = torch.where(counts, -functional.logsigmoid(signed), 0).sum(1)
    found = [(logits.argmax(1) == own).float() for logits in candidates]
    per_row = torch.stack([losses, *found, counts.sum(1).log()])
    return torch.where(rows.valid, per_row, 0)
