"""Cut texts that say the same phrases again and again."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter, measure
from lcl_data.repetition import word_repetition


class WordRepetition(TextFilter):
    """The share of word n-grams that occur more than once, over lower-case words stripped to letters.

    Measure and defaults are OBELICS' (compute_word_repetition_ratio; config_filter_web_documents.yaml: n 5,
    at most 0.2 for documents, 0.1 for paragraphs). A text of fewer words than `length` repeats nothing.
    """

    length: int = Field(5, ge=1, description="words of an n-gram")
    max: float | None = Field(
        None,
        ge=0,
        le=1,
        description="texts with a greater share are rejected; if null, 0.2 for documents, 0.1 for texts",
    )

    def facts(self) -> dict[str, pl.Expr]:
        """word_repetition_<length>."""
        return {self._fact: measure(word_repetition, pl.Float64, self.length)}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_high."""
        return {"too_high": pl.col(self._fact) > self.cutoff(self.max, document=0.2, text=0.1)}

    @property
    def _fact(self) -> str:
        return f"word_repetition_{self.length}"
