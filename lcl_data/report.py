"""What filters would cut, and how the facts they cut on are spread: counted shard by shard, nothing written.

Every number adds up over shards in any order, so that it does not depend on who counted what first.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from lcl_data.draft import Draft
from lcl_data.engine import Engine
from lcl_data.evidence import Evidence
from lcl_data.filter import batches, cut, sources_of
from lcl_data.filters import UNMEASURED, Filter, Kind
from lcl_data.foreign import accept
from lcl_data.frames import Frames, sound_units
from lcl_data.stage import DOCUMENTS_FROM, IMAGES_FROM, Unit, input_of, settings_of
from lcl_data.views import judged, measured, view_of
from schemas.errors import ShardError
from schemas.manifest import Count, Ledger
from schemas.members import key

QUANTILES = (1, 5, 50, 95, 99)  # per cent
# Values are counted as rounded to so many significant digits: at most 900 counters per power of ten, and
# quantiles that are exact to these digits (rounding keeps the order), however the counters are added up.
_DIGITS = 3
_KINDS: tuple[Kind, ...] = ("document", "image", "text")


class Effect(BaseModel):
    """How many rows something would drop: of all the filters see, and of those that earlier filters leave."""

    alone: int = 0
    in_sequence: int = 0


class Judged(Effect):
    """What one filter would drop, by reason.

    Attributes:
        alone: rows that any of its reasons holds for; a row is counted under each reason that holds, but
            once here.
    """

    filter: str
    settings: dict[str, Any]
    applies_to: Kind
    reasons: dict[str, Effect]


class Spread(BaseModel):
    """The values of one fact before anything is cut.

    Attributes:
        unmeasured: rows without a (finite) value.
        quantiles: p1, p5, p50, p95, p99 to three significant digits: the smallest value that so many per cent
            of the measured rows do not exceed. Empty where none is measured.
    """

    measured: int
    unmeasured: int
    quantiles: dict[str, float]


class Report(BaseModel):
    """What filters would do to documents.

    Attributes:
        seen: rows of each kind that the filters see: what was read, without images that the store lacks.
        filters: in their order.
        facts: kind -> fact -> its values.
        ledger: what the stage `filter` would write into its manifest.
        failed: torn shards, which are in no number, and why.
        notes: as the stage would make them.
    """

    seen: dict[Kind, int]
    filters: list[Judged]
    facts: dict[Kind, dict[str, Spread]]
    ledger: Ledger
    failed: dict[str, str]
    notes: list[str]


def report(
    docs: Path,
    filters: Sequence[Filter],
    engine: Engine,
    images: Path | None = None,
    scores: Sequence[Path] = (),
) -> Report:
    """Count what the filters would cut of the documents in `docs`; see `filter_documents` for the arguments.

    The exchange with the image store needs scratch space, which is taken where TMPDIR points.

    Raises:
        RecipeError: a filter does not fit documents; a folder is of the wrong stage.
        ShardError: there is no manifest in `docs`, or a table of the store is torn.
    """
    sources = sources_of(filters, images, scores)
    notes = accept(images, engine) if images else []
    input_of("documents", docs, DOCUMENTS_FROM)
    if images:
        input_of("images", images, IMAGES_FROM)
    units, _ = sound_units(docs)
    total, failed = Tally.empty(filters), {}
    with tempfile.TemporaryDirectory(prefix="lcl-report-") as scratch:
        evidence = sources.gather(Path(scratch).joinpath, docs, units, engine)
        work = partial(_tally, tuple(filters), evidence)
        for done, (unit, tally) in enumerate(engine.run(work, units), start=1):
            if isinstance(tally, str):
                failed[unit.name] = tally
            else:
                total.add(tally)
            engine.progress("report", done, len(units))
    return _told(total, filters, dict(sorted(failed.items())), notes)


@dataclass(slots=True)
class Tally:
    """The counts of some shards.

    Attributes:
        ledger: as the stage would count.
        seen: rows of each kind.
        alone: of each filter: rows by reason that holds, and by "" where any does.
        in_sequence: of each filter: rows by the reason they are rejected for.
        values: (kind, fact) -> rounded value -> rows; None for the unmeasured.
    """

    ledger: Ledger
    seen: Counter[Kind]
    alone: list[Counter[str]]
    in_sequence: list[Counter[str]]
    values: dict[tuple[Kind, str], Counter[float | None]] = field(default_factory=dict)

    @classmethod
    def empty(cls, filters: Sequence[Filter]) -> "Tally":
        """Nothing counted yet."""
        seen = Counter({each.applies_to: 0 for each in filters})
        return cls(Ledger(), seen, [Counter() for _ in filters], [Counter() for _ in filters])

    def add(self, other: "Tally") -> None:
        """Add the counts of other shards."""
        self.ledger.add(other.ledger)
        self.seen.update(other.seen)
        for mine, theirs in zip(
            (*self.alone, *self.in_sequence), (*other.alone, *other.in_sequence), strict=True
        ):
            mine.update(theirs)
        for fact, values in other.values.items():
            self.values.setdefault(fact, Counter()).update(values)


def _tally(filters: tuple[Filter, ...], evidence: Evidence, unit: Unit) -> Tally | str:
    tally = Tally.empty(filters)
    reading, *drafts = (Draft(Path(), unit.number, "") for _ in range(len(filters) + 1))  # they only count
    try:
        for frames in batches(unit, filters, evidence, reading):
            _count_alone(tally, frames, filters)
            for draft in drafts if reading.ledger.texts else []:
                draft.count("texts")
            _count_kept(reading.ledger, cut(frames, filters, drafts))
    except ShardError as error:
        return str(error)
    for each, draft, counter in zip(filters, drafts, tally.in_sequence, strict=True):
        counter.update(_reasons_of(each, draft.ledger))
    for draft in (reading, *drafts):
        tally.ledger.add(draft.ledger)
    return tally


def _count_kept(ledger: Ledger, left: Frames) -> None:
    ledger.documents.kept += left.documents.height
    ledger.images.kept += left.count("images")
    if ledger.texts:
        ledger.texts.kept += left.count("texts")


def _reasons_of(each: Filter, ledger: Ledger) -> dict[str, int]:
    """The filter's own rejections: all of its kind in a ledger that no other filter writes into."""
    own: Count = getattr(ledger, f"{each.applies_to}s") or Count()
    return {reason.removeprefix(f"{key(each)}:"): count for reason, count in own.rejected.items()}


def _count_alone(tally: Tally, frames: Frames, filters: tuple[Filter, ...]) -> None:
    """Count what each reason holds for, and the values of facts, over documents that nobody has cut."""
    for kind in _KINDS:
        concerned = [(number, each) for number, each in enumerate(filters) if each.applies_to == kind]
        if not concerned:
            continue
        view = measured(view_of(frames, kind), [each for _, each in concerned])
        tally.seen[kind] += view.height
        for number, each in concerned:
            tally.alone[number].update(_alone(view, each))
        for name in sorted({name for _, each in concerned for name in cuts_on(each, view)}):
            tally.values.setdefault((kind, name), Counter()).update(_values(view[name]))


def _alone(view: pl.DataFrame, each: Filter) -> dict[str, int]:
    reason = judged(view, each)["reason"]
    counts = {
        name: int(view.select(held.fill_null(False).sum()).item()) for name, held in each.reasons().items()
    }
    unmeasured = int(reason.str.ends_with(f":{UNMEASURED}").sum())
    return {"": reason.len() - reason.null_count(), **counts, UNMEASURED: unmeasured}


def cuts_on(each: Filter, view: pl.DataFrame) -> Iterator[str]:
    """The columns of numbers that a filter cuts on: what its reasons refer to, unless only its facts do."""
    facts = each.facts()
    steps = {name for fact in facts.values() for name in fact.meta.root_names()} - set(facts)
    for name in {name for held in each.reasons().values() for name in held.meta.root_names()} - steps:
        dtype = view.schema[name]
        if dtype.is_numeric() or dtype == pl.Boolean:
            yield name


def _values(column: pl.Series) -> dict[float | None, int]:
    numbers = column.cast(pl.Float64).to_frame("value")
    finite = pl.when(pl.col("value").is_finite()).then(pl.col("value").round_sig_figs(_DIGITS) + 0.0)
    counted = numbers.select(finite).group_by("value").len()
    return dict(counted.iter_rows())


def _told(total: Tally, filters: Sequence[Filter], failed: dict[str, str], notes: list[str]) -> Report:
    judged = []
    for each, alone, in_sequence in zip(filters, total.alone, total.in_sequence, strict=True):
        is_unmeasured = alone[UNMEASURED] or in_sequence[UNMEASURED]
        names = [*each.reasons(), *([UNMEASURED] if is_unmeasured else [])]
        reasons = {name: Effect(alone=alone[name], in_sequence=in_sequence[name]) for name in names}
        judged.append(
            Judged(
                filter=key(each),
                settings=settings_of(each),
                applies_to=each.applies_to,
                alone=alone[""],
                in_sequence=in_sequence.total(),
                reasons=reasons,
            )
        )
    facts: dict[Kind, dict[str, Spread]] = {}
    for (kind, name), values in sorted(total.values.items()):
        facts.setdefault(kind, {})[name] = _spread(values)
    ledger = total.ledger.sorted()
    return Report(
        seen=dict(total.seen), filters=judged, facts=facts, ledger=ledger, failed=failed, notes=notes
    )


def _spread(values: Counter[float | None]) -> Spread:
    unmeasured = values[None]
    ordered = sorted((value, count) for value, count in values.items() if value is not None)
    rows = sum(count for _, count in ordered)
    quantiles, below, wanted = {}, 0, list(QUANTILES)
    for value, count in ordered:
        below += count
        while wanted and below * 100 >= wanted[0] * rows:
            quantiles[f"p{wanted.pop(0)}"] = value
    return Spread(measured=rows, unmeasured=unmeasured, quantiles=quantiles)
