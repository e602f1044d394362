"""Cross-entropy of many tokens without all their logits in memory: a chunk at a time, recomputed backward."""

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lcl_train.collate import IGNORED


def summed_loss(hidden: Tensor, head: Tensor, labels: Tensor, chunk: int) -> Tensor:
    """The sum over the targets, in fp32.

    Args:
        hidden: [L, width] normed stream.
        head: [vocab_size, width].
        labels: int64 [L]; `IGNORED` counts nothing.
        chunk: targets whose logits are in memory at once.
    """
    chunks = list(zip(torch.split(hidden, chunk), torch.split(labels, chunk), strict=True))
    if len(chunks) == 1:
        return _summed(head, *chunks[0])
    return torch.stack([checkpoint(_summed, head, *each, use_reentrant=False) for each in chunks]).sum()


def _summed(head: Tensor, hidden: Tensor, labels: Tensor) -> Tensor:
    logits = functional.linear(hidden, head).float()
    return functional.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)
