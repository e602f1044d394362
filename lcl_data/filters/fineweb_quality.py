"""Cut documents whose lines are not those of prose: FineWeb's own rules."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter, measure
from lcl_data.repetition import repeated_lines
from lcl_data.wording import lines, ratio, words


class FinewebQuality(TextFilter):
    """Rules and numbers of FineWeb (Penedo et al. 2024, arXiv 2406.17557, section 3.6) and of its code.

    Blank lines do not count. A line ends in punctuation where its last character ends a sentence in its
    script (Unicode's Sentence_Terminal). The text items of a document are lines of it.
    """

    min_ended_lines: float = Field(
        0.12,
        ge=0,
        le=1,
        description="texts with a smaller share of lines that end in punctuation are rejected",
    )
    max_short_lines: float = Field(
        0.67, ge=0, le=1, description="texts with a greater share of short lines are rejected"
    )
    short_line_chars: int = Field(30, ge=0, description="lines of at most so many characters are short")
    max_repeated_lines: float = Field(
        0.01, ge=0, le=1, description="share of characters in lines that an earlier line equals"
    )
    max_line_ends_per_word: float = Field(0.3, ge=0, description="more line ends a word are a list")

    def facts(self) -> dict[str, pl.Expr]:
        """lines, words, and a share for each rule."""
        text = pl.col("text")
        ended = text.str.count_matches(r"(?m)\p{Sentence_Terminal}[^\S\n]*$")
        short = text.str.count_matches(rf"(?m)^.{{0,{self.short_line_chars}}}$")
        blank = text.str.count_matches(rf"(?m)^[^\S\n]{{0,{self.short_line_chars}}}$")
        return {
            "lines": lines(),
            "words": words(),
            "ended_line_share": ratio(ended, pl.col("lines")),
            self._short_lines: ratio(short - blank, pl.col("lines")),
            "repeated_line_share": measure(repeated_lines, pl.Float64),
            "line_ends_per_word": ratio(text.str.count_matches("\n", literal=True), pl.col("words")),
        }

    def reasons(self) -> dict[str, pl.Expr]:
        """One for each rule."""
        return {
            "too_few_ended_lines": pl.col("ended_line_share") < self.min_ended_lines,
            "too_many_short_lines": pl.col(self._short_lines) > self.max_short_lines,
            "too_many_repeated_lines": pl.col("repeated_line_share") > self.max_repeated_lines,
            "too_many_line_ends": pl.col("line_ends_per_word") > self.max_line_ends_per_word,
        }

    @property
    def _short_lines(self) -> str:
        return f"short_line_share_{self.short_line_chars}"
