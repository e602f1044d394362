"""Measures the pixels of an image store, a shard at a time, when a filter asks for what they say.

The tables lie beside the shards they speak of, so that the next run, with other thresholds, finds them done.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lcl_data import files, store
from lcl_data.engine import Engine
from lcl_data.pictures import Picture, Refusal
from lcl_data.pixels import Facts, pixel_facts
from schemas.errors import ShardError
from schemas.images import SUCCESS
from schemas.manifest import read_manifest
from schemas.pixels import PIXEL_FACTS, PIXELS
from schemas.versions import SCHEMA_KEY

FOLDER = "pixels"  # below the store
_PROOF = b"lcl.measured"
_MAX_PIXELS = Picture().max_pixels  # img2dataset's may be of any size
_ABANDONED_S = 3600.0  # age of a half-written table that nobody is writing any more


@dataclass(frozen=True, slots=True)
class _Unit:
    """A shard of the store: its table of schema `IMAGES`, its tar, and where its facts go."""

    table: Path
    tar: Path
    out: Path
    digest: str


def place(images: Path, scratch: Callable[[str], Path]) -> Path:
    """Where the tables of a store lie: beside its shards, or in the run's scratch if those are read-only."""
    is_ours = files.is_remote(images) or os.access(images, os.W_OK)
    return images / FOLDER if is_ours else scratch(FOLDER)


def measure(images: Path, folder: Path, engine: Engine) -> list[Path]:
    """Measure the stored pictures of every shard that was not measured yet.

    Args:
        images: image store, ours or img2dataset's once it is indexed.
        folder: of the tables (`place`).
        engine: where it runs.

    Returns:
        A table of schema `PIXELS` for each of `store.facts(images)`; a picture that cannot be decoded is a
        row of nulls.

    Raises:
        ShardError: tars are torn or gone; the shards beside them are measured all the same.
    """
    files.make(folder)
    units = _units(images, folder)
    _sweep(folder, {unit.out for unit in units})
    todo = [unit for unit in units if not _is_done(unit)]
    torn: dict[str, str] = {}
    for done, (unit, error) in enumerate(engine.run(_measure_shard, todo), start=len(units) - len(todo) + 1):
        if error:
            torn[unit.tar.name] = error
        engine.progress("measure", done, len(units))
    if torn:
        raise ShardError("; ".join(error for _, error in sorted(torn.items())))
    return [unit.out for unit in units]


def _units(images: Path, folder: Path) -> list[_Unit]:
    known = {shard.name: shard.sha256 for shard in read_manifest(images).shards}
    units = []
    for table, facts in zip(store.table_paths(images), store.facts(images), strict=True):
        content = known.get(facts.name) or files.sha256(facts)
        digest = files.digest([content, PIXELS.metadata[SCHEMA_KEY].decode()])
        units.append(_Unit(facts, table.with_suffix(".tar"), folder / table.name, digest))
    return units


def _sweep(folder: Path, wanted: set[Path]) -> None:
    """Remove the tables of shards that are no more, and what a killed run left half-written."""
    for path in files.inside(folder):
        is_draft = path.name.startswith(files.TEMPORARY)
        with suppress(FileNotFoundError):  # another run on this store sweeps too
            if path not in wanted and not (is_draft and time.time() - path.stat().st_mtime < _ABANDONED_S):
                path.unlink()


def _is_done(unit: _Unit) -> bool:
    try:
        return (pq.read_schema(files.reading(unit.out)).metadata or {}).get(_PROOF) == unit.digest.encode()
    except (OSError, pa.ArrowInvalid):
        return False


def _measure_shard(unit: _Unit) -> str | None:
    """Write the table of a shard; returns what is wrong with the shard, if anything is."""
    table = pq.read_table(files.reading(unit.table), columns=["key", "status", "offset", "nbytes"])
    stored = table.filter((pc.field("status") == SUCCESS) & pc.field("offset").is_valid()).to_pylist()
    try:
        found = store.contents(unit.tar, stored) if stored else ()
        measured = {key: _facts(content) for key, content in found}
    except ShardError as error:
        return str(error)
    rows = [{"key": key, **measured.get(key, {})} for key in table["key"].to_pylist()]
    _publish(unit, pa.Table.from_pylist(rows, schema=PIXELS))
    return None


def _facts(content: bytes) -> Facts:
    facts = pixel_facts(content, _MAX_PIXELS)
    return dict.fromkeys(PIXEL_FACTS) if isinstance(facts, Refusal) else facts


def _publish(unit: _Unit, table: pa.Table) -> None:
    """Write a table; two runs may measure one store at once."""
    table = table.replace_schema_metadata({**PIXELS.metadata, _PROOF: unit.digest.encode()})
    pq.write_table(table, files.temporary(unit.out), compression="zstd")
    files.publish(unit.out)
