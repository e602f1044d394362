"""Cut texts with too many words of a list: obscenities, slurs, spam."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter
from lcl_data.wording import share_of
from lcl_data.wordlists import ListFile, entries


class FlaggedWords(TextFilter):
    """The share of listed words among the lower-case words, stripped to letters; a listed phrase, or a word
    that holds a digit or sign at an end, counts as one wherever it stands.

    The default is OBELICS' (compute_flagged_word_ratio; config_filter_web_documents.yaml: at most 0.01 for
    documents and for paragraphs); C4 drops a page for one such word (`max: 0`). No list ships with LCL: what
    offends is for the user to say, by language, and the published lists have their own licences.
    """

    file: ListFile = Field(description="list of words, one a line, in the language of the texts")
    max: float = Field(0.01, ge=0, le=1, description="texts with a greater share are rejected")

    def facts(self) -> dict[str, pl.Expr]:
        """flagged_word_share_<file>."""
        return {self._fact: share_of(entries(self.file))}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_high."""
        return {"too_high": pl.col(self._fact) > self.max}

    @property
    def _fact(self) -> str:
        return f"flagged_word_share_{self.file.stem}"
