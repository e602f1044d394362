"""Cut documents that repeat lines, paragraphs or phrases: Gopher's repetition rules."""

from typing import Annotated

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter, measure
from lcl_data.repetition import gopher_fields, gopher_repetition

Words = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(ge=0, le=1)]


class GopherRepetition(TextFilter):
    """Rules and numbers of Gopher (Rae et al. 2021, arXiv 2112.11446, table A1).

    A repetition is an occurrence after the first. Paragraphs stand between blank lines. The most frequent
    n-gram counts with all its occurrences, if there are two; repeated n-grams that overlap count once.
    Words stand between spaces. Where the paper leaves it open (the first occurrence, the spaces) this is how
    FineWeb's filter counts.
    """

    max_repeated_lines: float = Field(0.3, ge=0, le=1, description="share of lines that are repetitions")
    max_repeated_line_chars: float = Field(0.2, ge=0, le=1, description="share of characters in such lines")
    max_repeated_paragraphs: float = Field(0.3, ge=0, le=1, description="share of paragraphs likewise")
    max_repeated_paragraph_chars: float = Field(0.2, ge=0, le=1, description="share of characters in those")
    max_top_ngram_chars: dict[Words, Share] = Field(
        {2: 0.20, 3: 0.18, 4: 0.16},
        description="words of an n-gram: share of characters in the most frequent such n-gram",
    )
    max_repeated_ngram_chars: dict[Words, Share] = Field(
        {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
        description="words of an n-gram: share of characters in repeated n-grams of that length",
    )

    def facts(self) -> dict[str, pl.Expr]:
        """All numbers in one pass over the text, and then each by its name."""
        lengths = (tuple(sorted(self.max_top_ngram_chars)), tuple(sorted(self.max_repeated_ngram_chars)))
        dtype = pl.Struct(dict.fromkeys(gopher_fields(*lengths), pl.Float64))
        whole = f"gopher_repetition_{'_'.join(map(str, lengths[0] + lengths[1]))}"
        fields = {name: pl.col(whole).struct.field(name) for name in self._limits()}
        return {whole: measure(gopher_repetition, dtype, *lengths), **fields}

    def reasons(self) -> dict[str, pl.Expr]:
        """One for each rule, named as its fact."""
        return {name: pl.col(name) > limit for name, limit in self._limits().items()}

    def _limits(self) -> dict[str, float]:
        tops = {f"top_{n}_gram_chars": self.max_top_ngram_chars[n] for n in sorted(self.max_top_ngram_chars)}
        repeated = self.max_repeated_ngram_chars
        return {
            "repeated_paragraphs": self.max_repeated_paragraphs,
            "repeated_paragraph_chars": self.max_repeated_paragraph_chars,
            "repeated_lines": self.max_repeated_lines,
            "repeated_line_chars": self.max_repeated_line_chars,
            **tops,
            **{f"repeated_{n}_gram_chars": repeated[n] for n in sorted(repeated)},
        }
