"""The stage `ingest`: upstream files to document shards, one for one, every row accounted for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from lcl_data import files
from lcl_data.archives import Packed
from lcl_data.at_once import each
from lcl_data.draft import DocumentWriter, Draft
from lcl_data.engine import Engine
from lcl_data.folders import is_outside
from lcl_data.garbage import collected_rarely
from lcl_data.rows import Part
from lcl_data.sources import Files, Row, Source
from lcl_data.stage import Stage, Unit, code_of, settings_of
from schemas import members
from schemas.documents import ROW_GROUP_ROWS, Document, to_table
from schemas.errors import RecipeError, ShardError, SourceError
from schemas.manifest import Input, Manifest
from schemas.recipe import Section, Settings

_GROUP_NBYTES = 32 << 20  # upstream bytes held before they are written
_MAX_REJECTS = 10_000  # rows of one shard's rejects table that name their place; the rest are only counted
_DETAIL_CHARS = 200


class Ingest(Settings):
    """Which upstream format to read, and how."""

    format: str = Field(description="name of a member of lcl_data.sources, or package.module:Class")
    source: Section = Field(default_factory=dict, description="settings of that source")

    def member(self, place: str = "source") -> Source:
        """The source these settings name; `place` is where its own settings stand, for messages.

        Raises:
            RecipeError: unknown format, or settings that it refuses.
        """
        return members.build("lcl_data.sources", {self.format: self.source}, Source, place)


def ingest(src: Path, out: Path, settings: Ingest, engine: Engine) -> Manifest:
    """Read every upstream file at `src` into document shards at `out`.

    Args:
        src: a file or folder of the format.
        out: the stage folder; a run that was killed resumes at the shard.
        settings: format and settings of its source.
        engine: where the work runs.

    Returns:
        The manifest; its `failed` names torn files.

    Raises:
        RecipeError: nothing to read, an unknown format, a folder in the way, or `out` lies in `src`.
    """
    source = settings.member()
    stage, units = stage_of(src, out, settings)
    return stage.finished() or stage.run(
        partial(_shard, source, src if src.is_dir() else src.parent), units, engine, source.notes(units)
    )


def stage_of(src: Path, out: Path, settings: Ingest) -> tuple[Stage, list[Unit]]:
    """The stage as `ingest` is about to fill it, and its units.

    Raises:
        RecipeError: as `ingest` does.
    """
    source = settings.member()
    if src.is_dir() and not is_outside(out, src):
        raise RecipeError(
            f"{out}: lies in {src}, whose files are all read, so the next time these too; name one outside it"
        )
    code = code_of([source])
    units = _fingerprinted(source.units(src), [each.digest for each in code])
    everything = files.digest([[unit.number, unit.name, unit.digest] for unit in units])
    inputs = (Input(name=src.resolve().name, digest=everything), *code)
    step = {"format": settings.format, "source": settings_of(source)}
    return Stage("ingest", out, step, inputs, counts_files=True), units


def _fingerprinted(units: list[Unit], code: list[str]) -> list[Unit]:
    """The units with the digests of their files: one that is repaired later costs one shard; `code` is that
    of the source, where it is a third party's.
    """
    paths = list(dict.fromkeys(path for unit in units for path in _paths(unit)))
    prints = dict(zip(paths, each(paths[0], files.fingerprint, paths) if paths else [], strict=True))
    digests = [_digest(_paths(unit), prints) for unit in units]
    whole = [files.digest([own, code]) for own in digests] if code else digests
    return [replace(unit, digest=digest) for unit, digest in zip(units, whole, strict=True)]


def _digest(paths: tuple[Path, ...], prints: dict[Path, str]) -> str:
    """Of one file, or of several together; several units may share a file."""
    return prints[paths[0]] if len(paths) == 1 else files.digest([prints[path] for path in paths])


def _paths(unit: Unit) -> tuple[Path, ...]:
    payload: Any = unit.payload
    if isinstance(payload, Files):
        return payload.paths
    return (payload.path if isinstance(payload, Packed | Part) else payload,)


def _shard(source: Source, root: Path, unit: Unit, draft: Draft) -> None:
    """Write one shard; what is said of a torn file does not say where on this machine `root` lies."""
    rejects = _Rejects(draft, unit.name)
    try:
        with collected_rarely(), DocumentWriter(draft) as writer:
            for documents, images in _groups(source, unit, draft, rejects):
                writer.write(to_table(documents), images)
    except ShardError as error:
        raise ShardError(str(error).replace(f"{root}/", "")) from error
    rejects.close()


def _groups(
    source: Source, unit: Unit, draft: Draft, rejects: "_Rejects"
) -> Iterator[tuple[list[Document], int]]:
    """Documents of a unit and how many images they hold, in groups of bounded rows and bytes; counts
    everything read on the way.
    """
    held: list[Document] = []
    nbytes = images = 0
    for row in source.read(unit):
        draft.ledger.documents.read += 1
        draft.ledger.images.read += row.images
        if isinstance(row.document, SourceError):
            rejects.document(row, row.document)
            continue
        rejects.images(row, row.document)
        held.append(row.document)
        nbytes += row.nbytes
        images += len(row.document.images)
        if len(held) >= ROW_GROUP_ROWS or nbytes >= _GROUP_NBYTES:
            yield held, images
            held, nbytes, images = [], 0, 0
    if held:
        yield held, images


class _Rejects:
    """Writes rejections down while they are few, and only counts them where a file is all garbage."""

    def __init__(self, draft: Draft, name: str) -> None:
        self._draft = draft
        self._name = name
        self._written = 0
        self._further: Counter[tuple[str, str]] = Counter()

    def document(self, row: Row, error: SourceError) -> None:
        """A row that became no document, with all its image entries."""
        self._add("documents", error, place=row.place)
        if row.images:
            whole = SourceError("document_rejected", error.reason)
            self._add("images", whole, row.images, place=row.place)

    def images(self, row: Row, document: Document) -> None:
        """The image entries of a document that were rejected alone."""
        for error in row.lost:
            self._add("images", error, id=document.id, place=row.place, url=document.url)

    def close(self) -> None:
        """Write down how many more there were."""
        for (kind, reason), number in sorted(self._further.items()):
            self._draft.reject(kind, reason, number, place=self._name, detail="further ones, not listed")

    def _add(self, kind: str, error: SourceError, number: int = 1, **where: Any) -> None:
        if self._written >= _MAX_REJECTS:
            self._further[kind, error.reason] += number
            return
        self._written += 1
        self._draft.reject(kind, error.reason, number, detail=error.detail[:_DETAIL_CHARS], **where)
