"""Cut texts that repeat the same few strings of characters: menus, lists of tags, keyboard noise."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter, measure
from lcl_data.repetition import character_repetition


class CharacterRepetition(TextFilter):
    """The share of the most frequent character n-grams (the first sqrt(kinds) that repeat) among all.

    Measure and defaults are OBELICS' (compute_character_repetition_ratio; config_filter_web_documents.yaml:
    n 10, at most 0.1 for paragraphs and for documents). A text shorter than `length` repeats nothing.
    """

    length: int = Field(10, ge=1, description="characters of an n-gram")
    max: float = Field(0.1, ge=0, le=1, description="texts with a greater share are rejected")

    def facts(self) -> dict[str, pl.Expr]:
        """character_repetition_<length>."""
        return {self._fact: measure(character_repetition, pl.Float64, self.length)}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_high."""
        return {"too_high": pl.col(self._fact) > self.max}

    @property
    def _fact(self) -> str:
        return f"character_repetition_{self.length}"
