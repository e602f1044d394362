"""CoCa (Yu et al. 2022): each image told from the others by its text, and its text told from the image.

Simplified: one causal language model reads the text alone for the contrast, then again after the image for
the caption, where CoCa splits its decoder into a half without and a half with cross-attention. So each
sample passes the language model twice, as LCL's table 1 says of its own "Con.+Cap.".
"""

from pydantic import Field

from lcl_train.layout import Layout
from lcl_train.objectives import ContrastiveGenerative, Objective, Paired


class Coca(ContrastiveGenerative, Paired, Objective):
    """Weighted sum of the contrast and the mean cross-entropy of the captions."""

    generation_weight: float = Field(2.0, ge=0, description="weight of the captions (CoCa: 2)")

    @property
    def layout(self) -> Layout:
        """Each image with its text, before and after it."""
        captions = self.generation_weight > 0
        return Layout("pairs", captions=captions, text_tokens=self.text_tokens)
