"""Cut texts that lack the small words which every sentence of a language needs."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter
from lcl_data.function_words import ENGLISH
from lcl_data.wording import share_of
from lcl_data.wordlists import ListFile, entries


class StopWords(TextFilter):
    """The share of stop words among the lower-case words, stripped to letters.

    The defaults are OBELICS' (compute_stopword_ratio; config_filter_web_documents.yaml: at least 0.35 for
    documents, 0.3 for paragraphs). Its list is not copied: the default list is the closed classes of English
    grammar (`lcl_data.function_words`). For another language give a list and a `min` for it.
    """

    file: ListFile | None = Field(None, description="list of stop words, one a line; English if null")
    min: float | None = Field(
        None,
        ge=0,
        le=1,
        description="texts with a smaller share are rejected; if null, 0.35 for documents, 0.3 for texts",
    )

    def facts(self) -> dict[str, pl.Expr]:
        """stop_word_share, or stop_word_share_<file>."""
        return {self._fact: share_of(entries(self.file) if self.file else ENGLISH)}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_low."""
        return {"too_low": pl.col(self._fact) < self.cutoff(self.min, document=0.35, text=0.3)}

    @property
    def _fact(self) -> str:
        return f"stop_word_share_{self.file.stem}" if self.file else "stop_word_share"
