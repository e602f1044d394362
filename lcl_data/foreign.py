"""img2dataset: what it made is indexed and serves as an image store; it can be run in place of our fetcher.

Its tars hold all pixels that are needed, so only facts are added: byte ranges, hashes, outcomes in our words.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lcl_data import files, store
from lcl_data.draft import Draft, proof_of
from lcl_data.engine import Engine
from lcl_data.fetch import Fetch
from lcl_data.phash import phash
from lcl_data.pictures import Picture
from lcl_data.spool import count, publish
from lcl_data.stage import Stage, Unit
from lcl_data.store import Row
from lcl_data.urls import Urls
from schemas.errors import RecipeError
from schemas.images import FAILED_TO_DOWNLOAD, IMAGES, SUCCESS
from schemas.manifest import MANIFEST, Input, Ledger, Manifest

_HTTP = re.compile(r"HTTP Error (\d{3})")
_FOLDER = "img2dataset"  # where it works, below the store
_PROGRAM = "import json, sys, img2dataset; img2dataset.download(**json.loads(sys.argv[1]))"
_NOBODY = "http://nobody.invalid/"  # keeps a shard without any web address from moving the following ones up
_MEASURED = ("url", "key", "status", "error_message", "width", "height", "original_width", "original_height")
# Nothing it or its dependencies start may call home.
_QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "disabled"}


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
    stage = Stage("download", folder, {"backend": "img2dataset"}, inputs)
    if done := stage.finished():
        return done
    stage.prepare()
    units = [Unit(int(path.stem), path.name, path) for path in paths]
    todo = [unit for unit in units if proof_of(folder, unit.number, stage.digest) is None]
    for made, _ in enumerate(engine.run(partial(_index_shard, stage.digest), todo), start=1):
        engine.progress(stage.name, len(units) - len(todo) + made, len(units))
    return _write_manifest(stage, units)


def run(
    stage: Stage, drafts: list[Draft], urls: Urls, fetch: Fetch, picture: Picture, size: int, engine: Engine
) -> None:
    """Have img2dataset fetch the URLs, and take its shards into the store.

    Args:
        stage: prepared.
        drafts: of all shards, in order; finished ones are left alone.
        urls: of the corpus.
        fetch: its timeout, retries, concurrency and disallowed directives are passed on.
        picture: its short side and quality are.
        size: URLs per shard.
        engine: `size` processes fetch and resize.

    Raises:
        RecipeError: img2dataset is not installed or failed, or private addresses are not allowed.
    """
    _check(fetch)
    todo = [draft for draft in drafts if proof_of(stage.out, draft.number, stage.digest) is None]
    if not todo:
        return
    work = stage.out / _FOLDER
    shutil.rmtree(work, ignore_errors=True)
    (work / "urls").mkdir(parents=True)
    for draft in drafts:
        listed, _ = urls.rows(draft.number * size, size)
        table = pa.table({"url": [url for url in listed if _is_web(url)] or [_NOBODY]})
        pq.write_table(table, work / "urls" / f"{draft.number:05d}.parquet")
    _run(work, _options(fetch, picture, size, engine.size))
    for done, draft in enumerate(todo, start=len(drafts) - len(todo) + 1):
        _adopt(work / "store", draft, dict(zip(*urls.rows(draft.number * size, size), strict=True)))
        engine.progress(stage.name, min(done * size, urls.count), urls.count)
    shutil.rmtree(work)


def _check(fetch: Fetch) -> None:
    if find_spec("img2dataset") is None:
        raise RecipeError(
            "backend img2dataset is not installed: pip install 'lcl[img2dataset]' (Python below 3.13)"
        )
    if not fetch.allow_private:
        raise RecipeError(
            "img2dataset cannot refuse private addresses; set fetch.allow_private to accept that, "
            "or use backend lcl"
        )


def _is_web(url: str) -> bool:
    """Whether img2dataset may see a URL: it opens file:// too, and a list must not read our disk."""
    return url.lower().startswith(("http://", "https://"))


def _options(fetch: Fetch, picture: Picture, size: int, processes: int) -> dict[str, Any]:
    return {
        "input_format": "parquet",
        "output_format": "webdataset",
        "number_sample_per_shard": size,
        "processes_count": processes,
        "thread_count": fetch.concurrency,
        "timeout": max(1, round(fetch.timeout_s)),
        "retries": fetch.retries,
        "disallowed_header_directives": list(fetch.disallowed),
        "image_size": picture.short_side,
        "resize_mode": "keep_ratio",
        "resize_only_if_bigger": True,
        "max_image_area": picture.max_pixels,
        "encode_format": "jpg",
        "encode_quality": picture.quality,
        "compute_hash": "sha256",
        "enable_wandb": False,
    }


def _run(work: Path, options: dict[str, Any]) -> None:
    paths = {"url_list": str(work / "urls"), "output_folder": str(work / "store")}
    log = work / "log.txt"
    with log.open("wb") as file:
        code = subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps(options | paths)],
            env=os.environ | _QUIET, stdout=file, stderr=file, check=False,
        ).returncode  # fmt: skip
    if code:
        raise RecipeError(f"img2dataset failed with exit code {code}; its words are in {log}")


def _adopt(folder: Path, draft: Draft, references: dict[str, int]) -> None:
    """Take a shard of img2dataset into the store, together with the URLs it was not shown."""
    name = f"{draft.number:05d}"
    rows = _described(folder / f"{name}.parquet", folder / f"{name}.tar", references)
    members = sum(row["status"] == SUCCESS for row in rows)
    for url in references.keys() - {row["url"] for row in rows}:
        key = f"{name}{len(rows):0{len(rows[0]['key']) - len(name) if rows else 1}d}"
        failure = {"url": url, "key": key, "status": FAILED_TO_DOWNLOAD, "reason": "bad_scheme"}
        rows.append(dict.fromkeys(IMAGES.names) | failure | {"references": references[url]})
    (folder / f"{name}.tar").replace(draft.path(".tar"))
    publish(draft, rows, members)


def _index_shard(digest: str, unit: Unit) -> None:
    table: Path = unit.payload
    draft = Draft(table.parent, unit.number, digest)
    rows = _described(table, table.with_suffix(".tar"), {})
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
    manifest = Manifest(
        stage=stage.name, digest=stage.digest, settings=stage.settings, inputs=list(stage.inputs),
        shards=shards, ledger=ledger.sorted(),
    )  # fmt: skip
    files.write(stage.out / MANIFEST, manifest.model_dump_json(indent=1, exclude_none=True).encode() + b"\n")
    return manifest


def _described(table: Path, tar: Path, references: dict[str, int]) -> list[Row]:
    """Rows of `IMAGES` from img2dataset's table and tar, in order of keys.

    Without `references` every URL counts once; with them, a URL that is not among them is no row.
    """
    stored = dict(_facts(tar))
    listed = pq.read_table(table).to_pylist()
    rows = []
    for found in sorted(listed, key=lambda row: str(row["key"])):
        if references and found["url"] not in references:
            continue
        row: Row = dict.fromkeys(IMAGES.names) | {name: found.get(name) for name in _MEASURED}
        row |= stored.get(str(found["key"]), {}) if row["status"] == SUCCESS else _outcome(found)
        rows.append(row | {"references": references.get(row["url"], 1)})
    return rows


def _facts(tar: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for member, content in store.members(tar):
        with Image.open(io.BytesIO(content)) as image:
            bits = phash(image)
        digest = hashlib.sha256(content).hexdigest()
        yield member.key, {"offset": member.offset, "nbytes": member.nbytes, "sha256": digest, "phash": bits}


def _outcome(found: dict[str, Any]) -> dict[str, Any]:
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
