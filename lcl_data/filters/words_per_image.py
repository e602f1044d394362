"""Cut documents whose pictures have hardly any words around them: galleries, catalogues."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter
from lcl_data.wording import words


class WordsPerImage(Filter):
    """Words of a document for each of its pictures.

    The defaults are OmniCorpus' (human_feedback_textfiltering/run.py): 50 words for each picture where there
    are more than two. NeMo Curator's image-to-word ratio of 0.001..0.1 is `min: 10, max: 1000`,
    `above_images: 0`. A document without pictures passes.
    """

    applies_to: ClassVar[Literal["document"]] = "document"
    min: float = Field(50, ge=0, description="documents with fewer words a picture are rejected")
    max: float | None = Field(None, ge=0, description="documents with more are rejected; no limit if null")
    above_images: int = Field(2, ge=0, description="documents of at most so many pictures pass")

    def facts(self) -> dict[str, pl.Expr]:
        """Words."""
        return {"words": words()}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_few, too_many."""
        images, count = pl.col("images"), pl.col("words")
        counts = (images > 0) & (images > self.above_images)
        reasons = {"too_few": counts & (count < images * self.min)}
        if self.max is not None:
            reasons["too_many"] = counts & (count > images * self.max)
        return reasons
