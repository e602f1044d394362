"""CLIP (Radford et al. 2021): each image told from the others of the step by its text; no generation.

Simplified: the text is read by our causal language model up to `<BoI>`, not by a text tower of its own, and
the image vector is the attentive pooling's, so that what differs from `lcl` is the input and the loss
alone.
"""

from lcl_train.collate import Batch
from lcl_train.layout import Layout
from lcl_train.model import LCLModel, Outputs
from lcl_train.objectives import Contrastive, Objective, Paired, Terms


class Clip(Contrastive, Paired, Objective):
    """Symmetric contrast over the pairs that a document falls into (LCL, table 1: "Con.", MMC4 as pairs)."""

    @property
    def layout(self) -> Layout:
        """Each image with its text."""
        return Layout("pairs", text_tokens=self.text_tokens)

    @property
    def weights(self) -> dict[str, float]:
        """The contrast alone."""
        return {"contrastive": self.contrastive_weight}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """Images, and what their texts foretell."""
        return Terms(pairs=self.pairs(model, outputs, batch), contrast=self.contrast)
