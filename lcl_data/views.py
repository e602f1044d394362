"""What filters look at: a row per document, image or text, with the facts they ask for as columns.

A fact of one view is measured once, however many filters cut on it.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from lcl_data.filters import Filter, Kind, score_column
from lcl_data.frames import Frames, no_documents
from schemas.errors import LclError, RecipeError
from schemas.members import key
from schemas.overrides import one_line
from schemas.pixels import PIXEL_FACTS, PIXELS


def view_of(frames: Frames, kind: Kind) -> pl.DataFrame:
    """The rows that filters of one kind judge, as `Filter` describes them."""
    if kind == "document":
        return frames.summary()
    return frames.images if kind == "image" else frames.texts


def measured(view: pl.DataFrame, filters: Sequence[Filter]) -> pl.DataFrame:
    """The view with the facts of these filters; one that it has already is not measured again."""
    for each in filters:
        for name, fact in each.facts().items():
            if name not in view.columns:
                view = view.with_columns(fact.alias(name))
    return view


def judged(view: pl.DataFrame, each: Filter) -> pl.DataFrame:
    """The view with the filter's facts and `reason` (null: kept).

    Raises:
        LclError: the filter broke; it is named, because it may be a third party's.
    """
    try:
        return measured(view, [each]).with_columns(each.reason().alias("reason"))
    except Exception as error:
        raise LclError(
            f"filter {key(each)}: broke on documents ({type(error).__name__}: {one_line(error)}); a filter "
            "must have an answer, or a null, for every row"
        ) from error


def check(filters: Sequence[Filter]) -> None:
    """Run the filters over no documents at all: what is wrong with them shows before any work begins.

    Raises:
        RecipeError: a fact has the name of a column, or means something else to another filter; a condition
            asks for a column that is not there.
    """
    known: dict[tuple[Kind, str], tuple[Filter, pl.Expr]] = {}
    for each in filters:
        view = view_of(no_documents(), each.applies_to).with_columns(**_brought(each))
        for name, fact in each.facts().items():
            if name in view.columns:
                raise RecipeError(
                    f"filter {key(each)}: its fact {name} is a column of {each.applies_to}s; rename it"
                )
            other, same = known.setdefault((each.applies_to, name), (each, fact))
            if not same.meta.eq(fact):
                raise RecipeError(
                    f"filter {key(each)}: measures its fact {name} otherwise than {key(other)} does; one "
                    "name means one number, so put the setting that differs into the name"
                )
        _try(each, view)


def pixels_of(filters: Sequence[Filter], images: Path | None) -> tuple[str, ...]:
    """The pixel facts that filters cut on, in the order of their contract.

    Args:
        filters: that fit (`check`).
        images: the store whose pictures are to be measured, if there is one.

    Raises:
        RecipeError: filters cut on pixels and there is no store.
    """
    named: set[str] = set()
    for each in filters:
        pixels = _columns_of(each).intersection(PIXEL_FACTS) if each.applies_to == "image" else set()
        if pixels and images is None:
            raise RecipeError(
                f"filter {key(each)}: judges pixels; name the image store, such as --images images "
                "(a recipe: download)"
            )
        named |= pixels
    return tuple(name for name in PIXEL_FACTS if name in named)


def _columns_of(each: Filter) -> set[str]:
    """What the filter's facts and reasons refer to."""
    expressions = (*each.facts().values(), *each.reasons().values())
    return {name for expression in expressions for name in expression.meta.root_names()}


def _brought(each: Filter) -> dict[str, pl.Expr]:
    """The columns that evidence adds to what documents have."""
    scores = {score_column(name): pl.lit(None, pl.Float64) for name in each.scores()}
    pixels = pl.Schema(PIXELS) if each.applies_to == "image" else {}
    return scores | {name: pl.lit(None, dtype) for name, dtype in pixels.items() if name in PIXEL_FACTS}


def _try(each: Filter, view: pl.DataFrame) -> None:
    try:
        measured(view, [each]).select(each.reason())
    except Exception as error:
        raise RecipeError(
            f"filter {key(each)}: its conditions do not fit the columns of {each.applies_to}s: {error}"
        ) from error
