"""Cut documents that do not look like prose: Gopher's quality rules."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter
from lcl_data.wording import lines, ratio, words


class GopherQuality(TextFilter):
    """Rules and numbers of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A.1.1, "Quality filtering").

    Words stand between spaces; blank lines do not count. A word's length counts its letters, marks and
    digits, not the punctuation attached to it. The rules were made for English web pages.
    """

    min_words: int = Field(50, ge=0, description="texts with fewer words are rejected")
    max_words: int = Field(100_000, ge=0, description="texts with more words are rejected")
    min_word_length: float = Field(3, ge=0, description="texts of a smaller mean word length are rejected")
    max_word_length: float = Field(10, ge=0, description="texts of a greater mean word length are rejected")
    max_symbols_per_word: float = Field(0.1, ge=0, description="hashes, or ellipses, for each word")
    max_bullet_lines: float = Field(0.9, ge=0, le=1, description="share of lines that begin with a bullet")
    max_ellipsis_lines: float = Field(0.3, ge=0, le=1, description="share of lines that end in an ellipsis")
    min_alphabetic_words: float = Field(0.8, ge=0, le=1, description="share of words that hold a letter")
    min_stop_words: int = Field(2, ge=0, description="different ones of `stop_words` that must occur")
    stop_words: tuple[str, ...] = Field(
        ("the", "be", "to", "of", "and", "that", "have", "with"), description="in lower case"
    )

    def facts(self) -> dict[str, pl.Expr]:
        """words, lines, mean_word_length, and of the rest a share or a count each."""
        text = pl.col("text")
        letters = text.str.replace_all(r"\W+", "").str.len_chars()
        bullets = text.str.count_matches(r"(?m)^[^\S\n]*[•‣◦▪*-]")
        trails = text.str.count_matches(r"(?m)(?:\.\.\.|…)[^\S\n]*$")
        return {
            "words": words(),
            "lines": lines(),
            "mean_word_length": ratio(letters, pl.col("words")),
            "hashes_per_word": ratio(text.str.count_matches("#"), pl.col("words")),
            "ellipses_per_word": ratio(text.str.count_matches(r"\.\.\.|…"), pl.col("words")),
            "bullet_line_share": ratio(bullets, pl.col("lines")),
            "ellipsis_line_share": ratio(trails, pl.col("lines")),
            "alphabetic_word_share": ratio(text.str.count_matches(r"\S*\p{L}\S*"), pl.col("words")),
            self._stop_words: self._found(),
        }

    def reasons(self) -> dict[str, pl.Expr]:
        """One for each rule."""
        words, length = pl.col("words"), pl.col("mean_word_length")
        return {
            "too_few_words": words < self.min_words,
            "too_many_words": words > self.max_words,
            "words_too_short": length < self.min_word_length,
            "words_too_long": length > self.max_word_length,
            "too_many_hashes": pl.col("hashes_per_word") > self.max_symbols_per_word,
            "too_many_ellipses": pl.col("ellipses_per_word") > self.max_symbols_per_word,
            "too_many_bullet_lines": pl.col("bullet_line_share") > self.max_bullet_lines,
            "too_many_ellipsis_lines": pl.col("ellipsis_line_share") > self.max_ellipsis_lines,
            "too_few_alphabetic_words": pl.col("alphabetic_word_share") < self.min_alphabetic_words,
            "too_few_stop_words": pl.col(self._stop_words) < self.min_stop_words,
        }

    @property
    def _stop_words(self) -> str:
        return f"stop_words_of_{'_'.join(self.stop_words)}"

    def _found(self) -> pl.Expr:
        words = (pl.col("text").str.contains(rf"(?i)\b{pl.escape_regex(word)}\b") for word in self.stop_words)
        return pl.sum_horizontal((word.cast(pl.UInt32) for word in words), ignore_nulls=False)
