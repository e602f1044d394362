"""BLIP-2's first stage (Li et al. 2023): contrast, captions, and whether image and text belong together.

Simplified: no query transformer, the images are the language model's own tokens; matching is judged from a
causal pass at the end of text, not from one that sees both ways; its mismatch is a text of the document
drawn before, not the hardest negative of the batch. Each sample passes the language model three times, as
LCL's table 1 says.
"""

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from lcl_train.collate import Batch
from lcl_train.layout import Layout
from lcl_train.model import LCLModel, Outputs
from lcl_train.objectives import ContrastiveGenerative, Mean, Objective, Paired, Terms
from lcl_train.presets import ModelSettings


class Blip2(ContrastiveGenerative, Paired, Objective):
    """Weighted sum of three terms; all weigh 1 (BLIP-2, section 3.2, sums them)."""

    matching_weight: float = Field(1.0, ge=0, description="weight of telling whether image and text match")

    @property
    def layout(self) -> Layout:
        """Each image with its text before it, after it, and with a foreign text after it."""
        is_judged = self.matching_weight > 0
        captions = is_judged or self.generation_weight > 0
        return Layout("pairs", captions=captions, mismatches=is_judged, text_tokens=self.text_tokens)

    @property
    def weights(self) -> dict[str, float]:
        """BLIP-2's: all 1."""
        return {**super().weights, "matching": self.matching_weight}

    def heads(self, sizes: ModelSettings) -> dict[str, nn.Module]:
        """The judge, from the stream at the end of text to one logit; and what the contrast needs."""
        if not self.matching_weight:
            return super().heads(sizes)
        width = sizes.language.width
        return {**super().heads(sizes), "match": nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """The pairs, the tokens of the true captions, and a verdict on true and false ones."""
        terms = super().terms(model, outputs, batch)
        if self.matching_weight:
            terms.means["matching"] = _judged(model, outputs, batch)
        return terms


def _judged(model: LCLModel, outputs: Outputs, batch: Batch) -> Mean:
    """Binary cross-entropy at the ends of the captions."""
    ends = outputs.stream.index_select(0, batch.match_position)
    logits: Tensor = model.heads["match"](ends).squeeze(-1).float()
    loss = functional.binary_cross_entropy_with_logits(logits, batch.matches.float(), reduction="sum")
    return Mean(loss, (batch.matches >= 0).sum())
