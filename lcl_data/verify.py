"""Proof that nothing was lost: every stage folder below a path, each file against its checksum and contract,
each ledger against its files, and each stage against the one it read.

Every file is read once, a batch of rows at a time, shard by shard on the engine's workers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from lcl_data import files
from lcl_data.draft import REJECTS_FOLDER
from lcl_data.engine import Engine
from lcl_data.inventory import Contents, contents_of
from schemas.errors import ShardError
from schemas.manifest import MANIFEST, Count, Ledger, Manifest, Shard, read_manifest
from schemas.rejects import REJECTS
from schemas.versions import check

_READERS = ("download", "filter", "dedupe", "shard")  # stages that account for every document they are given


class Problem(BaseModel):
    """Something that is not as it should be.

    Attributes:
        place: the file or folder.
        what: is wrong with it.
        remedy: what to do about it.
    """

    place: str
    what: str
    remedy: str


class StageReport(BaseModel):
    """A stage folder that was found, and what its ledger says."""

    folder: str
    stage: str
    shards: int
    rows: int
    nbytes: int
    reads: list[str]  # folders of the found stages that it read
    ledger: Ledger


class Totals(BaseModel):
    """Over all stages found."""

    stages: int = 0
    shards: int = 0
    rows: int = 0
    nbytes: int = 0
    links: int = 0  # pairs of stages of which one is proved to have read what the other kept


class Report(BaseModel):
    """What `lcl verify` found: no problem means that all laws hold."""

    path: str
    stages: list[StageReport]
    problems: list[Problem]
    totals: Totals


@dataclass(frozen=True, slots=True)
class _Unit:
    folder: Path
    stage: str
    shard: Shard


@dataclass(frozen=True, slots=True)
class _Stage:
    folder: Path
    digest: str  # of its manifest: by it other stages name it as their input
    manifest: Manifest


def verify(path: Path, engine: Engine | None = None) -> Report:
    """Check every stage folder at or below `path`.

    Args:
        path: a stage folder, or a folder of stage folders (a work folder).
        engine: where shards are read; this process if None.

    Returns:
        The report. Files that no manifest speaks of are not looked at.
    """
    found = list(_find(path))
    stages = [stage for stage in found if isinstance(stage, _Stage)]
    problems = [problem for problem in found if isinstance(problem, Problem)]
    if not found:
        problems.append(
            _problem(path, "holds no stage folder", "name the folder of a stage, or a work folder")
        )
    units = [
        _Unit(stage.folder, stage.manifest.stage, shard)
        for stage in stages
        for shard in stage.manifest.shards
    ]
    results = {
        (unit.folder, unit.shard.name): result
        for unit, result in (engine or Engine()).run(_check_shard, units)
    }
    for stage in stages:
        checked = [results[stage.folder, shard.name] for shard in stage.manifest.shards]
        problems += [problem for each, _ in checked for problem in each]
        problems += _check_stage(stage, [contents for _, contents in checked])
    links = list(_links(stages))
    problems += [problem for child, parent in links for problem in _check_link(child, parent)]
    reports = [
        _report(path, stage, [parent for child, parent in links if child is stage]) for stage in stages
    ]
    return Report(path=str(path), stages=reports, problems=problems, totals=_totals(reports))


def _find(path: Path) -> Iterator[_Stage | Problem]:
    """The stages at and below a path, and what keeps others from being one."""
    places = {manifest.parent for manifest in path.rglob(MANIFEST)}
    places |= {rejects.parent for rejects in path.rglob(REJECTS_FOLDER) if rejects.is_dir()}
    for folder in sorted(places):
        try:
            yield _Stage(folder, files.sha256(folder / MANIFEST), read_manifest(folder))
        except FileNotFoundError:
            yield _problem(folder, f"has no {MANIFEST}: the stage has not finished", "run the stage again")
        except ShardError as error:
            yield _problem(folder / MANIFEST, str(error), "run the stage again")


def _check_shard(unit: _Unit) -> tuple[list[Problem], Contents]:
    """Problems of one file, and what was counted in it."""
    path, shard = unit.folder / unit.shard.name, unit.shard
    again = f"run `{unit.stage}` again: it makes what is missing or torn anew"
    if not path.is_file():
        return [_problem(path, "is missing", again)], Contents()
    other = [_problem(path, "its bytes are not those that were written", f"delete it and {again}")]
    if path.stat().st_size != shard.nbytes:
        return other, Contents()
    try:
        with files.at_hand(path) as copy:
            if files.sha256(copy) != shard.sha256:
                return other, Contents()
            contents = contents_of(copy, unit.stage)
    except ShardError as error:
        return [_problem(path, str(error), again)], Contents()
    problems = [
        _problem(path, fault, "report this: the file is as it was written") for fault in contents.faults
    ]
    if contents.rows is not None and contents.rows != shard.rows:
        problems.append(_problem(path, f"holds {contents.rows} rows, its manifest says {shard.rows}", again))
    return problems, contents


def _check_stage(stage: _Stage, contents: list[Contents]) -> Iterator[Problem]:
    folder, manifest = stage.folder, stage.manifest
    again = f"run `{manifest.stage}` again"
    # A foreign file that cannot be read is a rejection in the ledger; a shard of ours must not be torn.
    for name, why in manifest.failed.items() if manifest.ledger.files is None else ():
        yield _problem(folder, f"{name} failed: {why}", f"mend it and {again}")
    for kind, count in _counts(manifest.ledger):
        if not count.balances:
            said = f"read {count.read}, kept {count.kept}, rejected {sum(count.rejected.values())}"
            yield _problem(folder / MANIFEST, f"{kind}: the ledger does not balance: {said}", again)
        # Where a file is missing or torn, that is the problem: what it held cannot be counted.
        held = _held(manifest, contents, kind) if all(each.is_whole for each in contents) else set()
        for number in sorted(held - {count.kept}):
            yield _problem(folder, f"{kind}: the files hold {number}, the ledger kept {count.kept}", again)
    yield from _check_rejects(stage)


def _held(manifest: Manifest, contents: list[Contents], kind: str) -> set[int]:
    """How many of a kind the files hold: one number, unless containers of the same rows differ."""
    sums: Counter[str] = Counter()
    for shard, each in zip(manifest.shards, contents, strict=True):
        if (number := getattr(each, kind, None)) is not None:
            sums[Path(shard.name).suffix] += number
    return set(sums.values())


def _check_rejects(stage: _Stage) -> Iterator[Problem]:
    """The rejects tables against the ledger."""
    folder = stage.folder / REJECTS_FOLDER
    written = Counter(
        {("files", "failed"): len(stage.manifest.failed)} if stage.manifest.ledger.files else {}
    )
    for path in sorted(folder.glob("*.parquet")):
        try:
            check(pq.read_schema(files.reading(path)).metadata, REJECTS, path)
            written.update(_sums(path))
        except (ShardError, OSError, pa.ArrowInvalid) as error:
            yield _problem(
                path, f"cannot be read: {error}", f"delete it and run `{stage.manifest.stage}` again"
            )
    ledger = {
        (kind, why): n for kind, count in _counts(stage.manifest.ledger) for why, n in count.rejected.items()
    }
    for kind, reason in sorted(ledger.keys() | written.keys()):
        said, wrote = ledger.get((kind, reason), 0), written[kind, reason]
        if said != wrote:
            yield _problem(
                folder,
                f"{kind}: the ledger rejected {said} as {reason}, the tables {wrote}",
                f"run `{stage.manifest.stage}` again",
            )


def _sums(path: Path) -> Counter[tuple[str, str]]:
    table = pq.read_table(files.reading(path), columns=["kind", "reason", "count"]).group_by(
        ["kind", "reason"]
    )
    rows = table.aggregate([("count", "sum")]).to_pylist()
    return Counter({(row["kind"], row["reason"]): row["count_sum"] for row in rows})


def _links(stages: list[_Stage]) -> Iterator[tuple[_Stage, _Stage]]:
    """Each found stage with each found stage whose documents or images it read."""
    by_digest = {stage.digest: stage for stage in stages}
    for stage in stages:
        for source in stage.manifest.inputs:
            if source.digest in by_digest:
                yield stage, by_digest[source.digest]


def _check_link(child: _Stage, parent: _Stage) -> Iterator[Problem]:
    """What one kept, the next has read. An image store is looked up, not read through."""
    is_reader = child.manifest.stage in _READERS and parent.manifest.stage != "download"
    if not is_reader or child.manifest.failed:
        return
    for kind in ("documents", "images"):
        read, kept = getattr(child.manifest.ledger, kind).read, getattr(parent.manifest.ledger, kind).kept
        if read != kept:
            yield _problem(
                child.folder,
                f"read {read} {kind}, but {parent.folder.name} kept {kept}",
                f"run `{child.manifest.stage}` again on {parent.folder.name}",
            )


def _counts(ledger: Ledger) -> list[tuple[str, Count]]:
    return [(kind, count) for kind, count in ledger if count is not None]


def _report(path: Path, stage: _Stage, reads: list[_Stage]) -> StageReport:
    shards = stage.manifest.shards
    return StageReport(
        folder=_name(stage.folder, path),
        stage=stage.manifest.stage,
        shards=len(shards),
        rows=sum(shard.rows for shard in shards),
        nbytes=sum(shard.nbytes for shard in shards),
        reads=[_name(each.folder, path) for each in reads],
        ledger=stage.manifest.ledger,
    )


def _name(folder: Path, path: Path) -> str:
    return str(folder.relative_to(path)) if folder != path else folder.name


def _totals(reports: Iterable[StageReport]) -> Totals:
    totals = Totals()
    for report in reports:
        totals.stages += 1
        totals.shards += report.shards
        totals.rows += report.rows
        totals.nbytes += report.nbytes
        totals.links += len(report.reads)
    return totals


def _problem(place: Path, what: str, remedy: str) -> Problem:
    return Problem(place=str(place), what=what, remedy=remedy)
