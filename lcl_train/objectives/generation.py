"""Generation alone, as Flamingo trains (Alayrac et al. 2022): the next tokens of interleaved documents.

Simplified: the images stand in the text as tokens, where Flamingo attends to them in layers of their own,
and everything trains from scratch, where Flamingo keeps an encoder and a language model frozen. It is `lcl`
without its contrast: the paper's ablation of that term, and its table 1's "Gen.".
"""

from lcl_train.collate import Batch
from lcl_train.model import LCLModel, Outputs
from lcl_train.objectives import Generative, Objective, Terms


class Generation(Generative, Objective):
    """Mean cross-entropy of the text targets."""

    @property
    def weights(self) -> dict[str, float]:
        """The cross-entropy alone."""
        return {"generation": self.generation_weight}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """Next tokens."""
        return Terms(self.told(model, outputs, batch))
