"""Latent compression learning: next tokens of text, and images told from one another by the text before them.

The terms are two halves of the mutual information between a causal model's inputs and outputs (the paper's
argument): generation alone collapses on interleaved data, contrast alone keeps nothing for what follows.
"""

from pydantic import Field

from lcl_train.collate import Batch
from lcl_train.model import LCLModel, Outputs
from lcl_train.objectives import Contrastive, Generative, Objective, Terms, pairs, told


class Lcl(Contrastive, Generative, Objective):
    """Weighted sum of a symmetric contrast over the pairs and the mean cross-entropy of the text targets."""

    contrastive_weight: float = Field(0.1, ge=0, description="weight of the contrast (the paper's lambda)")

    @property
    def weights(self) -> dict[str, float]:
        """The paper's: 0.1 contrast, 1 generation."""
        return {"contrastive": self.contrastive_weight, "generation": self.generation_weight}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """Next tokens, and the pairs of images that have a context."""
        generation = told(model, outputs, batch, self.chunk) if self.generation_weight else None
        return Terms(
            means={} if generation is None else {"generation": generation},
            pairs=pairs(model, outputs, batch) if self.contrastive_weight else None,
            contrast=self.contrast,
        )
