"""Take lines out of texts that are no sentences: menus, notices, citations."""

import re

import polars as pl
from pydantic import Field

from lcl_data.filters import Cleaner, measure

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_ENDED = r"""[\p{Sentence_Terminal}"'”’»]$"""
_TRAILS_OFF = r"(?:\.\.\.|…)$"
_POLICY = "terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"


class C4Lines(Cleaner):
    """The line rules of C4 (Raffel et al., arXiv 1910.10683, section 2.2; code in TensorFlow Datasets).

    Lines are those within a text item, stripped of spaces at both ends; one without a mark at its end goes,
    so headings do. The marks are C4's (. ! ? and quotes), in any script. FineWeb keeps such lines
    (`terminal_punctuation: false`).
    """

    terminal_punctuation: bool = Field(True, description="drop lines that end in no mark, or in an ellipsis")
    min_words: int = Field(3, ge=0, description="lines with fewer words are dropped")
    max_word_chars: int = Field(1000, ge=1, description="lines that hold a longer word are dropped")
    javascript: bool = Field(True, description='drop lines that hold "javascript"')
    policy: bool = Field(True, description="drop lines about cookies, terms of use and privacy")
    citations: bool = Field(True, description="take out [1], [edit] and [citation needed]")

    def cleaned(self) -> pl.Expr:
        """The lines that are left."""
        text, line = measure(_uncited, pl.String) if self.citations else pl.col("text"), pl.element()
        stripped = text.str.split("\n").list.eval(line.str.strip_chars())
        return stripped.list.eval(line.filter(self._is_kept(line))).list.join("\n")

    def _is_kept(self, line: pl.Expr) -> pl.Expr:
        rules = [
            line.str.count_matches(r"\S+") >= self.min_words,
            ~line.str.contains(rf"\S{{{self.max_word_chars + 1}}}"),
        ]
        if self.terminal_punctuation:
            rules.append(line.str.contains(_ENDED) & ~line.str.contains(_TRAILS_OFF))
        if self.javascript:
            rules.append(~line.str.contains("(?i)javascript"))
        if self.policy:
            rules.append(~line.str.contains(f"(?i){_POLICY}"))
        return pl.all_horizontal(rules)


def _uncited(texts: pl.Series) -> pl.Series:
    found = [_without_citations(text) if text and "[" in text else text for text in texts]
    return pl.Series(texts.name, found, dtype=pl.String)


def _without_citations(text: str) -> str:
    """Until none is left: taking one out may close the brackets of another."""
    while (shorter := _CITATION.sub("", text)) != text:
        text = shorter
    return text
