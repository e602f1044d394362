"""Latent compression learning: next tokens of text, and images told from one another by the text before them.

The terms are two halves of the mutual information between a causal model's inputs and outputs (the paper's
argument): generation alone collapses on interleaved data, contrast alone keeps nothing for what follows.
"""

from pydantic import Field

from lcl_train.collate import Batch
from lcl_train.model import LCLModel, Outputs
from lcl_train.objectives import Contrastive, Generative, Objective, Terms


class Lcl(Contrastive, Generative, Objective):
    """Weighted sum of a symmetric contrast over the pairs and the mean cross-entropy of the text targets."""

    contrastive_weight: float = Field(0.1, ge=0, description="weight of the contrast (the paper's lambda)")

    @property
    def weights(self) -> dict[str, float]:
        """The paper's: 0.1 contrast, 1 generation."""
        return {"contrastive": self.contrastive_weight, "generation": self.generation_weight}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """Next tokens, and the pairs of images that have a context."""
        return Terms(
            means=self.told(model, outputs, batch),
            pairs=self.pairs(model, outputs, batch),
            contrast=self.contrast,
        )
