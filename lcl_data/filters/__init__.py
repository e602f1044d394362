"""Filters: opinions about facts that stand in columns. One per file; a filter is its own settings.

A filter answers with polars expressions, so that it cuts a thousand documents at once; what it needs to know
was measured by an earlier stage or is plain in the text, and what was not measured is said to be so.
"""

from abc import abstractmethod
from typing import ClassVar, Literal

import polars as pl

from schemas.members import key
from schemas.recipe import Settings

UNMEASURED = "unmeasured"


class Filter(Settings):
    """The base of all filters: names of reasons, and for each the condition under which it holds.

    The frame an expression is evaluated over depends on `applies_to`:

    - `image`: one row per image item, the columns of `schemas.documents.Image` (url, alt, similarity, width,
      height, nbytes, ...).
    - `text`: one row per text item, column `text`.
    - `document`: one row per document: id, source, url, license, meta; `text` (its remaining text items
      joined by newlines), `texts` and `images` (how many items of each kind remain).

    Filters cut in the order of the recipe; each sees what the earlier ones left.
    """

    applies_to: ClassVar[Literal["document", "image", "text"]]

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
