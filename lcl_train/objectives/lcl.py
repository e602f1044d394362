"""Latent compression learning: next tokens of text, and images told from one another by the text before them.

The terms are two halves of the mutual information between a causal model's inputs and outputs (the paper's
argument): generation alone collapses on interleaved data, contrast alone keeps nothing for what follows.
"""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lcl_train.collate import Batch
from lcl_train.model import Outputs
from lcl_train.objectives import Loss
from schemas.recipe import Settings


class Lcl(Settings):
    """Weighted sum of a symmetric InfoNCE over the pairs and the mean cross-entropy of the text targets."""

    contrastive_weight: float = Field(0.1, ge=0, description="weight of the contrast (the paper's lambda)")
    generation_weight: float = Field(1.0, ge=0, description="weight of the next-token loss")
    mask_copies: bool = Field(True, description="copies of one picture are no negatives of each other")
    chunk: int = Field(
        4096, gt=0, description="targets whose logits are in memory at once; more are recomputed"
    )

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """The loss of one batch; a term without pairs or targets is exactly 0."""
        with torch.autocast(batch.tokens.device.type, enabled=False):
            contrastive, recall = self._contrast(outputs, batch)
        generation = self._generate(outputs, batch.labels)
        total = self.contrastive_weight * contrastive + self.generation_weight * generation
        parts = {"total": total, "contrastive": contrastive, "generation": generation, "recall_at_1": recall}
        counts = {
            "pairs": len(batch.pair_image),
            "labels": len(batch.labels),
            "images": len(batch.image_keys),
        }
        return Loss(total, {name: part.detach() for name, part in parts.items()}, counts)

    def _contrast(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both directions' mean, and how often a context finds its image among all, in fp32."""
        latents = outputs.latents.float().index_select(0, batch.pair_image)
        contexts, scale = outputs.contexts.float(), outputs.logit_scale.float()
        if len(latents) == 0:  # an empty sum and a scale of nothing: 0, with a way back to every parameter
            zero = latents.sum() + contexts.sum() + 0 * scale
            return zero, zero.detach()
        latents, contexts = functional.normalize(latents, dim=-1), functional.normalize(contexts, dim=-1)
        logits = scale.exp() * latents @ contexts.T
        if self.mask_copies:
            logits = logits.masked_fill(_copies(batch), float("-inf"))
        own = torch.arange(len(logits), device=logits.device)
        loss = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        return loss, (logits.argmax(0) == own).float().mean()

    def _generate(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the targets, a chunk of logits at a time."""
        hidden = torch.split(outputs.hidden, self.chunk)
        chunks = list(zip(hidden, torch.split(labels, self.chunk), strict=True))
        if len(chunks) == 1:
            return _summed_loss(outputs.head, *chunks[0]) / max(len(labels), 1)
        sums = [checkpoint(_summed_loss, outputs.head, *chunk, use_reentrant=False) for chunk in chunks]
        return torch.stack(sums).sum() / len(labels)


def _copies(batch: Batch) -> Tensor:
    """Pairs [P, P] of different places that show the same picture."""
    keys = batch.image_keys.index_select(0, batch.pair_image)
    same = keys[:, None] == keys[None, :]
    return same.fill_diagonal_(False)


def _summed_loss(head: Tensor, hidden: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of a chunk, in fp32."""
    return functional.cross_entropy(functional.linear(hidden, head).float(), labels, reduction="sum")
