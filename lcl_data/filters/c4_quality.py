"""Cut pages that hold code or dummy text, or too few sentences: C4's rules for whole pages."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter
from lcl_data.wording import sentences


class C4Quality(TextFilter):
    """The page rules of C4 (Raffel et al., arXiv 1910.10683, section 2.2); its line rules are `c4_lines`.

    C4 counts sentences in what its line rules left: put `c4_lines` before this filter. Its rule on obscene
    words is `flagged_words`.
    """

    min_sentences: int = Field(5, ge=0, description="texts with fewer sentences are rejected")
    lorem_ipsum: bool = Field(True, description='reject texts that hold "lorem ipsum"')
    curly_bracket: bool = Field(True, description="reject texts that hold a {: most are code")

    def facts(self) -> dict[str, pl.Expr]:
        """sentences, has_lorem_ipsum, has_curly_bracket."""
        text = pl.col("text")
        return {
            "sentences": sentences(),
            "has_lorem_ipsum": text.str.contains("(?i)lorem ipsum"),
            "has_curly_bracket": text.str.contains("{", literal=True),
        }

    def reasons(self) -> dict[str, pl.Expr]:
        """lorem_ipsum, curly_bracket, too_few_sentences."""
        return {
            "lorem_ipsum": pl.col("has_lorem_ipsum") & self.lorem_ipsum,
            "curly_bracket": pl.col("has_curly_bracket") & self.curly_bracket,
            "too_few_sentences": pl.col("sentences") < self.min_sentences,
        }
