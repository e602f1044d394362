"""The contrast between images and contexts, over all pairs of a step."""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from schemas.recipe import Settings


class ContrastSettings(Settings):
    """The kind of contrast, and what is no negative."""

    kind: Literal["softmax"] = Field("softmax", description="softmax: InfoNCE both ways, as the paper")
    mask_copies: bool = Field(
        True, description="copies of one picture, and pairs of one context, are no negatives of each other"
    )


class Pairs(NamedTuple):
    """Images and what their contexts foretell.

    Attributes:
        latents: [P, width], not normalised.
        contexts: [P, width], not normalised.
        keys: int64 [P], equal for copies of one picture.
        context_ids: int64 [P], equal for identical contexts.
        valid: bool [P], False for what only fills a fixed shape.
    """

    latents: Tensor
    contexts: Tensor
    keys: Tensor
    context_ids: Tensor
    valid: Tensor


class Contrasted(NamedTuple):
    """Sums over the pairs of this rank, in fp32.

    Attributes:
        loss: scalar with a graph.
        hits: contexts that find their image first among all.
        n: pairs.
    """

    loss: Tensor
    hits: Tensor
    n: Tensor


def contrast(pairs: Pairs, logit_scale: Tensor, settings: ContrastSettings) -> Contrasted:
    """Symmetric InfoNCE (reference implementation): mean of both directions, summed over the pairs."""
    latents, contexts = (functional.normalize(x.float(), dim=-1) for x in (pairs.latents, pairs.contexts))
    logits = logit_scale.float().exp() * latents @ contexts.T
    if len(logits) == 0:  # 0, with a way back to every parameter
        zero = latents.sum() + contexts.sum() + 0 * logit_scale
        return Contrasted(zero, zero.detach(), pairs.valid.sum())
    if settings.mask_copies:
        logits = logits.masked_fill(_same(pairs), float("-inf"))
    own = torch.arange(len(logits), device=logits.device)
    losses = [functional.cross_entropy(x, own, reduction="sum") for x in (logits, logits.T)]
    return Contrasted(
        (losses[0] + losses[1]) / 2, (logits.detach().argmax(0) == own).sum(), pairs.valid.sum()
    )


def _same(pairs: Pairs) -> Tensor:
    """[P, P], different places that show one picture or have one context."""
    keys, contexts = pairs.keys, pairs.context_ids
    same = (keys[:, None] == keys[None]) | (contexts[:, None] == contexts[None])
    return same.fill_diagonal_(False)
