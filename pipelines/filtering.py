"""`lcl filter`: cut, or with --report say what would be cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters import Filter
from lcl_data.report import Effect, Report, report
from pipelines.console import Console
from pipelines.recipes import chosen, members
from schemas.errors import RecipeError

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Filtering:
    """What the command line asks for.

    Attributes:
        presets: of filters; those of `use` are laid over them.
        use: filters, as `--use` names them.
        images: image store, if there is one.
        scores: tables of model scores.
    """

    presets: Sequence[str]
    use: Sequence[str]
    images: Path | None
    scores: Sequence[Path]

    @property
    def filters(self) -> list[Filter]:
        """The filters.

        Raises:
            RecipeError: an entry names none, or settings it does not have.
        """
        return members("lcl_data.filters", [*chosen(self.presets), *self.use], Filter)

    def cut(self, docs: Path, out: Path | None, engine: Engine, console: Console) -> int:
        """Fill `out` with what the filters leave; returns the exit code.

        Raises:
            RecipeError: no `out`, or filters that do not fit.
        """
        if out is None:
            raise RecipeError("name a folder to fill: lcl filter DOCS OUT; --report needs none")
        return console.manifest(
            filter_documents(docs, out, self.filters, engine, images=self.images, scores=self.scores)
        )

    def report(self, docs: Path, engine: Engine, console: Console) -> int:
        """Show what the filters would cut, write nothing; returns the exit code, 1 where a shard is torn."""
        told = report(docs, self.filters, engine, images=self.images, scores=self.scores)
        console.stop()
        console.table("what each threshold would drop", _EFFECTS, list(_effects(told)))
        console.table("facts before anything is cut", _FACTS, list(_facts(told)))
        for kind, counted in told.ledger:
            if counted is not None:
                console.say(f"{kind}: {counted.read:,} read, {counted.kept:,} would be kept")
        for note in (*told.notes, *self._hints(told)):
            console.say(f"note: {note}")
        console.failures(told.failed)
        console.result(told.model_dump(exclude_none=True))
        return 1 if told.failed else 0

    def _hints(self, told: Report) -> Iterator[str]:
        """What a person may have forgotten."""
        facts = told.facts.get("image", {}).items()
        blank = [name for name, spread in facts if not spread.measured and not name.startswith(_UPSTREAM)]
        if blank and told.seen["image"] and self.images is None:
            yield f"{', '.join(blank)}: measured of no image; --images attaches what an image store knows"


_UPSTREAM = ("meta_", "score_", "similarity")  # facts that no image store knows
_EFFECTS = ("filter", "judges", "alone", "share", "in sequence", "share")
_FACTS = ("fact", "of", "unmeasured", "p1", "p5", "p50", "p95", "p99")


def _effects(told: Report) -> Iterator[Row]:
    """A row per filter, and one per reason below it."""
    for judged in told.filters:
        seen = told.seen[judged.applies_to]
        yield (judged.filter, f"{seen:,} {judged.applies_to}s", *_shares(judged, seen))
        for reason, effect in judged.reasons.items():
            yield (f"  {reason}", "", *_shares(effect, seen))


def _shares(effect: Effect, seen: int) -> Row:
    alone, in_sequence = (f"{count / max(seen, 1):.2%}" for count in (effect.alone, effect.in_sequence))
    return effect.alone, alone, effect.in_sequence, in_sequence


def _facts(told: Report) -> Iterator[Row]:
    for kind, facts in told.facts.items():
        for name, spread in facts.items():
            of = f"{spread.measured + spread.unmeasured:,} {kind}s"
            yield (name, of, spread.unmeasured, *(spread.quantiles.values() or "-----"))
