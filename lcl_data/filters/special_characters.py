"""Cut texts that are made of signs rather than of letters: tables, code, ornaments."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter
from lcl_data.wording import ratio


class SpecialCharacters(TextFilter):
    """The share of characters that are neither letters nor marks on letters: punctuation, digits, spaces.

    The defaults are OBELICS' (config_filter_web_documents.yaml: at most 0.275 for documents, 0.3 for
    paragraphs). OBELICS lists its special characters one by one; here Unicode's categories L and M decide, so
    that the vowel signs of Indic scripts are no special characters. Words cost a space each: prose lies near
    0.2 in English.
    """

    max: float | None = Field(
        None,
        ge=0,
        le=1,
        description="texts with a greater share are rejected; if null, 0.275 for documents, 0.3 for texts",
    )

    def facts(self) -> dict[str, pl.Expr]:
        """special_character_share."""
        text = pl.col("text")
        letters = text.str.replace_all(r"[^\p{L}\p{M}]+", "").str.len_chars()
        return {"special_character_share": ratio(text.str.len_chars() - letters, text.str.len_chars())}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_high."""
        share = pl.col("special_character_share")
        return {"too_high": share > self.cutoff(self.max, document=0.275, text=0.3)}
