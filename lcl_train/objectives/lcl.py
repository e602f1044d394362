"""Latent compression learning: next tokens of text, and images told from one another by the text before them.

The terms are two halves of the mutual information between a causal model's inputs and outputs (the paper's
argument): generation alone collapses on interleaved data, contrast alone keeps nothing for what follows.
"""

from pydantic import Field

from lcl_train.objectives import ContrastiveGenerative, Objective


class Lcl(ContrastiveGenerative, Objective):
    """Weighted sum of a symmetric contrast over the pairs and the mean cross-entropy of the text targets."""

    contrastive_weight: float = Field(0.1, ge=0, description="weight of the contrast (the paper's lambda)")
