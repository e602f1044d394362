"""Filters: opinions about facts that stand in columns. One per file; a filter is its own settings.

A filter answers with polars expressions, so that it cuts a thousand documents at once; what it needs to know
was measured by an earlier stage or is measured by its facts, and what was not measured is said to be so.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar, Literal, Self

import polars as pl
from pydantic import Field, model_validator

from schemas.members import key
from schemas.recipe import Settings

Kind = Literal["document", "image", "text"]
UNMEASURED = "unmeasured"


def score_column(name: str) -> str:
    """The column of images or documents that holds a score."""
    return f"score_{name}"


class Filter(Settings):
    """The base of all filters: names of reasons, and for each the condition under which it holds.

    The frame an expression is evaluated over depends on `applies_to`:

    - `image`: one row per image item, the columns of `schemas.documents.Image` (url, alt, similarity, width,
      height, nbytes, ...), and of those of `schemas.pixels.PIXELS` (pixel_sharpness, ...) what any filter
      refers to: the stored pictures are measured for it.
    - `text`: one row per text item, column `text`.
    - `document`: one row per document: id, source, url, license, meta; `text` (its remaining text items
      joined by newlines), `texts` and `images` (how many items of each kind remain).

    Filters cut in the order of the recipe; each sees what the earlier ones left.
    """

    applies_to: ClassVar[Kind]

    def facts(self) -> dict[str, pl.Expr]:
        """Name -> expression of each column that the filter measures and its reasons refer to.

        A fact speaks of its own row alone (no `over`, no aggregate of the column), and may build on facts
        before it. Filters share a fact by giving it the same name and the same expression: it is then
        measured once. So a setting that changes the number belongs into the name (`word_repetition_5`), a
        threshold never does. What polars cannot express is made by `measure`.
        """
        return {}

    def scores(self) -> tuple[str, ...]:
        """Names of the scores (tables given with `--scores`) it cuts on; `score_column` is their column."""
        return ()

    @abstractmethod
    def reasons(self) -> dict[str, pl.Expr]:
        """Reason -> Boolean expression, true where it holds and the row is rejected; the first one names it.

        Where none is true and one is null (its fact was never measured) the row is rejected as `unmeasured`:
        nothing is kept or dropped in silence. A filter that wants otherwise fills its nulls.
        """

    def reason(self) -> pl.Expr:
        """The reason each row is rejected for, as the ledger counts it (`image_size:too_small`), or null."""
        conditions = self.reasons()
        first = pl.coalesce(
            *(pl.when(condition).then(pl.lit(name)) for name, condition in conditions.items()),
            pl.when(pl.any_horizontal(c.is_null() for c in conditions.values())).then(pl.lit(UNMEASURED)),
        )
        return pl.lit(f"{key(self)}:") + first

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        """Refuse a least that is above the most: nothing would be kept."""
        for name, least in self:
            most = getattr(self, f"max{name[3:]}", None) if name.startswith("min") else None
            if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
                raise ValueError(f"{name} {least} is above max{name[3:]} {most}: nothing would be kept")
        return self


class TextFilter(Filter):
    """A filter of wording that judges whole documents, or each text item by itself.

    Papers that do both (OBELICS) cut at other numbers there: a cutoff that is not given is the paper's for
    the level.
    """

    level: Literal["document", "text"] = Field(
        "document", description="judge all texts of a document together, or each text item by itself"
    )

    @property
    def applies_to(self) -> Literal["document", "text"]:  # type: ignore[override]  # a setting, no constant
        """The level."""
        return self.level

    def cutoff(self, given: float | None, document: float, text: float) -> float:
        """What was given, or else the paper's number for the level."""
        if given is not None:
            return given
        return document if self.level == "document" else text


class Cleaner(Filter):
    """A filter that first rewrites each text item, and rejects what it leaves blank.

    The ledger counts the texts that it changed and kept (`texts.changed`), beside read = kept + rejected. A
    cleaner changes nothing in a text that it has cleaned.
    """

    applies_to: ClassVar[Literal["text"]] = "text"

    @abstractmethod
    def cleaned(self) -> pl.Expr:
        """What is to stand in the place of column `text`."""

    def facts(self) -> dict[str, pl.Expr]:
        """The cleaned text, by the name of the cleaner."""
        return {self.fact: self.cleaned()}

    def reasons(self) -> dict[str, pl.Expr]:
        """The reason empty."""
        return {"empty": ~pl.col(self.fact).str.contains(r"\S")}

    @property
    def fact(self) -> str:
        """The column of the cleaned text."""
        return f"cleaned_{key(self)}"


@cache
def measure(
    function: Callable[..., pl.Series], dtype: pl.DataType | type[pl.DataType], *settings: Any
) -> pl.Expr:
    """A fact about `text` that polars cannot express: `function(text, *settings)` of a whole column.

    Args:
        function: of a module (no lambda); takes a String series, gives a series of equal length and `dtype`.
        dtype: of the fact; a Struct holds several numbers made in one pass (`.struct.field(name)`).
        settings: hashable. Equal arguments give one and the same expression, so that filters can share it.
    """
    return pl.col("text").map_batches(partial(_applied, function, settings), return_dtype=dtype)


def _applied(function: Callable[..., pl.Series], settings: tuple[Any, ...], text: pl.Series) -> pl.Series:
    return function(text, *settings)
