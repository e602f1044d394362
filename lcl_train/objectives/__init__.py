"""What a model is trained for: one file per objective, each a frozen settings model.

An objective says what it wants to see of a document (`layout`), which parameters it adds (`heads`), and what
it makes of a forward pass (`terms`): sums and counts, never means, because a mean is taken over all ranks and
micro-batches. Every parameter that trains must be reached whatever the batch holds.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from lcl_train.collate import Batch
from lcl_train.contrast import Bias, ContrastSettings, Pairs
from lcl_train.cross_entropy import told_losses
from lcl_train.layout import Layout
from lcl_train.model import LCLModel, Outputs
from lcl_train.presets import ModelSettings
from schemas.recipe import Settings


class Mean(NamedTuple):
    """A term as what it sums over what it counts.

    Attributes:
        sum: fp32 scalar with a graph; 0 where there is nothing to sum.
        n: terms of the sum.
        each: fp32 without a graph, what is summed, for each label or pair of the batch; None: not kept.
    """

    sum: Tensor
    n: Tensor | int
    each: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What an objective makes of one batch on one rank.

    Attributes:
        means: terms of the loss by name.
        pairs: what is contrasted over the whole step; None: nothing.
        contrast: how.
    """

    means: dict[str, Mean] = field(default_factory=dict)
    pairs: Pairs | None = None
    contrast: ContrastSettings = field(default_factory=ContrastSettings)


class Objective(Settings):
    """Anything that turns a forward pass into terms of a loss."""

    @property
    def layout(self) -> Layout:
        """What it wants to see of a document."""
        return Layout()

    @property
    def weights(self) -> dict[str, float]:
        """Of its terms in the loss, `contrastive` among them; a term of weight 0 is left out."""
        raise NotImplementedError

    def heads(self, sizes: ModelSettings) -> dict[str, nn.Module]:
        """Parameters of its own, by name."""
        return {}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """Sums and counts of one batch."""
        raise NotImplementedError


class Contrastive(Settings):
    """Settings of objectives that tell images from one another by text."""

    contrastive_weight: float = Field(1.0, ge=0, description="weight of the contrast")
    contrast: ContrastSettings = Field(ContrastSettings(), description="kind of contrast, and its negatives")

    def heads(self, sizes: ModelSettings) -> dict[str, nn.Module]:
        """The bias of the sigmoid."""
        return (
            {"contrast_bias": Bias()} if self.contrast.kind == "sigmoid" and self.contrastive_weight else {}
        )

    def pairs(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Pairs | None:
        """Images, and what the stream at their `<BoI>` foretells; None where that has no weight."""
        if not self.contrastive_weight:
            return None
        return Pairs(
            latents=outputs.latents.index_select(0, batch.pair_image),
            contexts=model.foretell(outputs.stream.index_select(0, batch.pair_position)),
            keys=batch.image_keys.index_select(0, batch.pair_image),
            context_ids=batch.pair_context,
            valid=torch.ones_like(batch.pair_image, dtype=torch.bool),
        )


class Generative(Settings):
    """Settings of objectives that tell tokens."""

    generation_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy of tokens")
    chunk: int = Field(512, gt=0, description="targets whose logits are in memory at once")

    def told(self, model: LCLModel, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        """Cross-entropy of the batch's labels as the term `generation`; nothing where that has no weight."""
        if not self.generation_weight:
            return {}
        hidden = model.head_norm(outputs.stream.index_select(0, batch.label_position))
        loss, each = told_losses(hidden, model.head.weight, batch.labels, self.chunk)
        return {"generation": Mean(loss, (batch.labels >= 0).sum(), each)}


class ContrastiveGenerative(Contrastive, Generative):
    """Settings of objectives that do both."""

    @property
    def weights(self) -> dict[str, float]:
        """Of the contrast and of the cross-entropy of tokens."""
        return {"contrastive": self.contrastive_weight, "generation": self.generation_weight}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """The pairs, and the tokens that are told."""
        return Terms(self.told(model, outputs, batch), self.pairs(model, outputs, batch), self.contrast)


class Paired(Settings):
    """Settings of objectives that see each image alone with its text."""

    text_tokens: int = Field(77, gt=0, description="tokens of a text that are kept (CLIP's context)")
