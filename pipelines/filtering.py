"""`lcl filter`: cut, or with --report say what would be cut."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters import Filter
from lcl_data.report import Effect, Report
from lcl_data.report import report as count
from pipelines.console import Console
from pipelines.recipes import members
from schemas.errors import RecipeError

Row = tuple[object, ...]


def cut(
    docs: Path, out: Path | None, use: Sequence[str], images: Path | None, engine: Engine, console: Console
) -> int:
    """Fill `out` with what the filters leave; returns the exit code.

    Raises:
        RecipeError: no `out`, or filters that do not fit.
    """
    if out is None:
        raise RecipeError("name a folder to fill: lcl filter DOCS OUT; --report needs none")
    filters = members("lcl_data.filters", use, Filter)
    return console.manifest(filter_documents(docs, out, filters, engine, images=images))


def report(docs: Path, use: Sequence[str], images: Path | None, engine: Engine, console: Console) -> int:
    """Show what the filters would cut and write nothing; returns the exit code, 1 where shards are torn."""
    told = count(docs, members("lcl_data.filters", use, Filter), engine, images=images)
    console.stop()
    header = ("filter", "judges", "alone", "share", "in sequence", "share")
    console.table("what each threshold would drop", header, list(_effects(told)))
    console.table(
        "facts before anything is cut",
        ("fact", "of", "unmeasured", "p1", "p5", "p50", "p95", "p99"),
        list(_facts(told)),
    )
    for kind, counted in told.ledger:
        if counted is not None:
            console.say(f"{kind}: {counted.read:,} read, {counted.kept:,} would be kept")
    for note in told.notes:
        console.say(f"note: {note}")
    console.failures(told.failed)
    console.result(told.model_dump(exclude_none=True))
    return 1 if told.failed else 0


def _effects(told: Report) -> Iterator[Row]:
    """A row per filter, and one per reason below it."""
    for judged in told.filters:
        seen = told.seen[judged.applies_to]
        yield (judged.filter, f"{seen:,} {judged.applies_to}s", *_shares(judged, seen))
        for reason, effect in judged.reasons.items():
            yield (f"  {reason}", "", *_shares(effect, seen))


def _shares(effect: Effect, seen: int) -> Row:
    alone, in_sequence = (f"{count / max(seen, 1):.1%}" for count in (effect.alone, effect.in_sequence))
    return effect.alone, alone, effect.in_sequence, in_sequence


def _facts(told: Report) -> Iterator[Row]:
    for kind, facts in told.facts.items():
        for name, spread in facts.items():
            of = f"{spread.measured + spread.unmeasured:,} {kind}s"
            yield (name, of, spread.unmeasured, *(spread.quantiles.values() or "-----"))
