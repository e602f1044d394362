"""What tells a healthy run from one that only looks so, as pure functions of tensors.

A loss does not say why it is low. Latents may have collapsed (their rank falls, their spread goes), pairs may
be few (the bound cannot exceed log N), or text may be told without a look at the images.
"""

from math import log, sqrt

import torch
from torch import Tensor
from torch.nn import functional


def infonce_bound(loss: Tensor, log_candidates: Tensor) -> Tensor:
    """Lower bound of the mutual information of contexts and latents: log N - L.

    Args:
        loss: mean InfoNCE in nats.
        log_candidates: mean logarithm of how many images each context was told from, its own included: the
            log N where copies of a picture are masked, which must not raise the bound.

    Returns:
        Nats; at most log N, and below 0 where the guess is worse than an even one. Source: van den Oord et
        al. 2018 (arXiv 1807.03748), section 2.3.
    """
    return log_candidates - loss


def effective_rank(features: Tensor) -> Tensor:
    """How many directions features [N, D] fill: exp of the entropy of the normalised singular values.

    Between 1 (all on one line, or all equal) and min(N, D). Source: Roy and Vetterli 2007; as a sign of
    collapse: Garrido et al. 2022 (arXiv 2210.02885).
    """
    values: Tensor = torch.linalg.svdvals(features.double())
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def feature_std(features: Tensor) -> Tensor:
    """Spread of features [N, D] on the unit sphere: 1 where they point everywhere, 0 where all are equal.

    The mean over the dimensions of the standard deviation over N, times sqrt(D). Source: Chen and He 2020
    (arXiv 2011.10566), section 4.1.
    """
    directions: Tensor = functional.normalize(features.float(), dim=-1)
    spread: Tensor = directions.std(dim=0, correction=0).mean()
    return spread * sqrt(features.shape[1])


def rivals_ahead(contexts: Tensor, latents: Tensor, keys: Tensor) -> Tensor:
    """How many images are at least as near to a context as the one that belongs to it.

    Fewer than k of them is a hit of recall at k. A tie counts against the own image, so that collapsed
    latents earn nothing.

    Args:
        contexts: [P, D] what the stream at `<BoI>` foretells.
        latents: [P, D] the pooled image of each context.
        keys: int64 [P], equal for copies of one picture: the other copies are no rivals.

    Returns:
        int64 [P].
    """
    scores = functional.normalize(contexts.float(), dim=-1) @ functional.normalize(latents.float(), dim=-1).T
    is_rival = keys[:, None] != keys[None, :]
    return ((scores >= scores.diagonal()[:, None]) & is_rival).sum(dim=1)


def bits_per_byte(losses: Tensor, nbytes: Tensor) -> Tensor:
    """Bits that the model needs for a byte of text.

    Args:
        losses: nats of each target.
        nbytes: int64, bytes of text that each target stands for; targets of 0 bytes (an image, the end) are
            left out on both sides.
    """
    is_text = nbytes > 0
    return losses[is_text].double().sum() / nbytes[is_text].sum() / log(2)
