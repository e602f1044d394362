"""Cut texts without punctuation: keyword lists, navigation."""

import polars as pl
from pydantic import Field

from lcl_data.filters import TextFilter
from lcl_data.wording import ratio


class Punctuation(TextFilter):
    r"""The share of punctuation marks among words (`[\w']+`) and marks (`, ; : ? ! .`).

    Measure and defaults are OBELICS' (compute_punctuation_ratio; config_filter_web_documents.yaml: at least
    0.03 for documents, 0.001 for paragraphs of 12 words and marks or more). The marks of scripts that have
    their own (such as the Chinese and Arabic ones) count too.
    """

    min: float | None = Field(
        None,
        ge=0,
        le=1,
        description="texts with a smaller share are rejected; if null, 0.03 for documents, 0.001 for texts",
    )
    from_words: int | None = Field(
        None,
        ge=0,
        description="shorter texts (in words and marks) pass; if null, 0 for documents, 12 for texts",
    )

    def facts(self) -> dict[str, pl.Expr]:
        """punctuation_marks, and words_and_marks."""
        text, marks = pl.col("text"), r"[,;:?!.]|[、。，；：？！،؛؟।॥።၊။]"
        count = text.str.count_matches(marks)
        return {"punctuation_marks": count, "words_and_marks": text.str.count_matches(r"[\w']+") + count}

    def reasons(self) -> dict[str, pl.Expr]:
        """too_low."""
        whole = pl.col("words_and_marks")
        share = ratio(pl.col("punctuation_marks"), whole)
        is_long = whole >= self.cutoff(self.from_words, document=0, text=12)
        return {"too_low": is_long & (share < self.cutoff(self.min, document=0.03, text=0.001))}
