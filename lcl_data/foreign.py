"""A folder that img2dataset alone made serves as an image store once it is indexed, its own files untouched.

Its tars hold all pixels that are needed, so only facts are added: byte ranges, hashes, outcomes in our words.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lcl_data import files, store
from lcl_data.draft import Draft, proof_of, proof_path
from lcl_data.engine import Engine
from lcl_data.outcomes import count
from lcl_data.pictures import Picture, Refusal, stored_phash
from lcl_data.stage import Stage, Unit
from lcl_data.store import Row
from schemas.errors import RecipeError, ShardError
from schemas.images import FAILED_TO_DOWNLOAD, FAILED_TO_RESIZE, IMAGES, SUCCESS
from schemas.manifest import Input, Ledger, Manifest

_HTTP = re.compile(r"HTTP Error (\d{3})")
_SIZES = ("width", "height", "original_width", "original_height")
_MEASURED = ("url", "key", "status", "error_message", *_SIZES)
_MAX_PIXELS = Picture().max_pixels  # theirs may be of any size
_LOST = dict.fromkeys(_SIZES) | {
    "status": FAILED_TO_DOWNLOAD,
    "reason": "not_in_tar",
    "error_message": "listed as stored, but not among the members of the tar",
}


def accept(images: Path, engine: Engine) -> list[str]:
    """Index an image store if img2dataset made it and that was not done yet; any other is left as it is.

    Returns:
        Notes for the manifest of the stage that reads the store.

    Raises:
        ShardError: a tar or table of it is torn.
    """
    if not images.is_dir() or not any(map(store.is_foreign, store.table_paths(images))):
        return []
    index(images, engine)
    return [f"{images.name}: made by img2dataset; indexed, its own files left as they are"]


def refuse(out: Path) -> None:
    """Refuse a folder with shards of img2dataset, which would be overwritten.

    Raises:
        RecipeError: naming one of them.
    """
    for table in store.table_paths(out) if out.is_dir() else ():
        try:
            is_foreign = store.is_foreign(table)
        except ShardError:  # torn; with a proof beside it ours, and to be made again
            is_foreign = not proof_path(out, int(table.stem)).exists()
        if is_foreign:
            raise RecipeError(f"{table}: made by img2dataset; name another folder, or filter with this one")


def index(folder: Path, engine: Engine) -> Manifest:
    """Add to a folder that img2dataset made what an image store has more: NNNNN_index.parquet and a manifest.

    Its own files are left alone. The ledger counts every URL once, because who refers to it is not known.

    Raises:
        RecipeError: there is nothing of img2dataset's in the folder.
        ShardError: a tar or table of it is torn.
    """
    found = store.table_paths(folder) if folder.is_dir() else []
    paths = [path for path in found if store.is_foreign(path)]
    if not paths:
        raise RecipeError(f"{folder}: no NNNNN.parquet of img2dataset in it; name its output folder")
    inputs = tuple(Input(name=path.name, digest=files.fingerprint(path)) for path in paths)
    theirs = tuple(path.name for path in files.inside(folder))
    stage = Stage("download", folder, {"backend": "img2dataset"}, inputs, leaves=theirs)
    if done := stage.finished():
        return done
    stage.prepare()
    units = [Unit(int(path.stem), path.name, path) for path in paths]
    todo = [unit for unit in units if proof_of(folder, unit.number, stage.digest) is None]
    for made, _ in enumerate(engine.run(partial(_index_shard, stage.digest), todo), start=1):
        engine.progress(f"index {folder.name}", len(units) - len(todo) + made, len(units))
    return _write_manifest(stage, units)


def _index_shard(digest: str, unit: Unit) -> None:
    table: Path = unit.payload
    draft = Draft(table.parent, unit.number, digest)
    rows = described(table, table.with_suffix(".tar"), {})
    name = store.index_path(table).name.removeprefix(table.stem)
    store.write_table(draft.path(name), rows)
    draft.rows(name, len(rows))
    count(draft, rows)
    draft.commit()


def _write_manifest(stage: Stage, units: list[Unit]) -> Manifest:
    """As `Stage.finish`, which would sweep away files that no proof of ours names: img2dataset's own."""
    ledger = Ledger()
    shards = []
    for unit in units:
        if proof := proof_of(stage.out, unit.number, stage.digest):
            ledger.add(proof.ledger)
            shards.extend(proof.shards)
    return stage.publish(shards, ledger)


def described(table: Path, tar: Path, references: dict[str, int]) -> list[Row]:
    """Rows of `IMAGES` from img2dataset's table and tar, in order of keys.

    Without `references` every URL counts once; with them, a URL that is not among them is no row.
    """
    stored = dict(_facts(tar))
    listed = pq.read_table(files.reading(table)).to_pylist()
    rows = []
    for found in sorted(listed, key=lambda row: str(row["key"])):
        if references and found["url"] not in references:
            continue
        row: Row = dict.fromkeys(IMAGES.names) | {name: found.get(name) for name in _MEASURED}
        row["url"] = found["url"] or ""  # a null names no picture, but was tried and is counted
        row |= stored.get(str(found["key"]), _LOST) if row["status"] == SUCCESS else outcome(found)
        rows.append(row | {"references": references.get(row["url"], 1)})
    return rows


def _facts(tar: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a row has more by its picture; a picture that cannot be decoded turns its row into a failure."""
    for member, content in store.members(tar):
        bits = stored_phash(content, _MAX_PIXELS)
        if isinstance(bits, Refusal):
            failure = {"status": FAILED_TO_RESIZE, "reason": bits.reason, "error_message": bits.detail}
            yield member.key, dict.fromkeys(_SIZES) | failure
            continue
        digest = hashlib.sha256(content).hexdigest()
        yield member.key, {"offset": member.offset, "nbytes": member.nbytes, "sha256": digest, "phash": bits}


def outcome(found: dict[str, Any]) -> dict[str, Any]:
    """Our reason for a failure of img2dataset, from its message."""
    message = found.get("error_message") or ""
    if status := _HTTP.search(message):
        return {"reason": f"http_{status[1]}", "http_status": int(status[1])}
    if found["status"] != FAILED_TO_DOWNLOAD:
        return {"reason": "broken_image"}
    words = {
        "timed out": "timeout",
        "Name or service": "dns",
        "refused": "unreachable",
        "disallowed": "opted_out",
    }
    return {"reason": next((ours for theirs, ours in words.items() if theirs in message), "connection")}
