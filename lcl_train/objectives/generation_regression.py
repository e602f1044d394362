"""Generation and regression, as Emu trains (Sun et al. 2023): the next token, of text or of an image.

Simplified: a visual token is one of the encoder's, in reading order; Emu has a causal transformer make a
fixed number of them. Emu's regression is a squared error too. The target is the encoder's own output and is
NOT detached by default: LCL describes naive latent compression as a minimum over encoder and language model
together ("no stop-gradient anywhere"), whose trivial optimum, a constant encoder, is what its table 1's
"Gen.+Reg." shows. `detach` makes the target fixed within a step, which takes away that pull and not the
other way to the same optimum.
"""

from pydantic import Field
from torch import Tensor, nn

from lcl_train.collate import Batch
from lcl_train.model import LCLModel, Outputs
from lcl_train.objectives import Generative, Mean, Objective, Terms
from lcl_train.presets import ModelSettings


class GenerationRegression(Generative, Objective):
    """Weighted sum of the mean cross-entropy of text targets and the mean squared error of visual ones.

    Equal weights are ours: LCL does not give its own.
    """

    regression_weight: float = Field(1.0, ge=0, description="weight of the squared error of visual tokens")
    detach: bool = Field(False, description="whether the encoder is kept from moving towards the forecast")

    @property
    def weights(self) -> dict[str, float]:
        """Both 1."""
        return {"generation": self.generation_weight, "regression": self.regression_weight}

    def heads(self, sizes: ModelSettings) -> dict[str, nn.Module]:
        """The forecast: the stream before a slot to the visual token in it."""
        if not self.regression_weight:
            return {}
        width = sizes.language.width
        return {"regress": nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """Next tokens of text, next visual tokens."""
        means = self.told(model, outputs, batch)
        if self.regression_weight:
            means["regression"] = self._foretold(model, outputs, batch)
        return Terms(means)

    def _foretold(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Mean:
        """Squared error of every slot, mean over its numbers; computed everywhere, so that shapes stay."""
        forecasts: Tensor = model.heads["regress"](outputs.stream[:-1]).float()
        following = batch.visual_index[1:]  # a slot is never first: `<BoI>` or a slot stands before it
        visual = outputs.visual.detach() if self.detach else outputs.visual
        targets = visual.flatten(0, 1).index_select(0, following.clamp(min=0)).float()
        is_slot = following >= 0
        errors = (forecasts - targets).square().mean(-1) * is_slot
        return Mean(errors.sum(), is_slot.sum())
