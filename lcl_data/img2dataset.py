"""img2dataset run in place of our fetcher; what it makes becomes an image store of ours.

Its tars hold all pixels that are needed, so only facts are added: byte ranges, hashes, outcomes in our words.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lcl_data.draft import Draft, proof_of
from lcl_data.engine import Engine
from lcl_data.fetch import Fetch
from lcl_data.files import need_local
from lcl_data.foreign import described
from lcl_data.outcomes import publish
from lcl_data.pictures import Picture
from lcl_data.stage import Stage
from lcl_data.urls import Urls
from schemas.errors import RecipeError
from schemas.images import FAILED_TO_DOWNLOAD, IMAGES, SUCCESS

FOLDER = "img2dataset"  # where it works, below the store
# Settings that it would not hold.
_UNHELD = (
    "per_host",
    "max_bytes",
    "max_redirects",
    "backoff_s",
    "max_wait_s",
    "user_agent",
    "allow_networks",
)
_PROGRAM = "import json, sys, img2dataset; img2dataset.download(**json.loads(sys.argv[1]))"
_NOBODY = "http://nobody.invalid/"  # keeps a shard without any web address from moving the following ones up
# Nothing it or its dependencies start may call home.
_QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "disabled"}


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
        RecipeError: img2dataset is not installed or failed, private addresses are not allowed, or a setting
            is one that it does not have.
    """
    need_local(stage.out, "img2dataset writes to a local disk; name one, or use backend lcl")
    _check(fetch, picture, urls)
    todo = [draft for draft in drafts if proof_of(stage.out, draft.number, draft.digest) is None]
    if not todo:
        return
    work = stage.out / FOLDER
    shutil.rmtree(work, ignore_errors=True)
    (work / "urls").mkdir(parents=True)
    for draft in drafts:
        listed = [row.url for row in urls.rows(draft.number * size, size) if _is_web(row.url)]
        table = pa.table({"url": listed or [_NOBODY]})
        pq.write_table(table, work / "urls" / f"{draft.number:05d}.parquet")
    _run(work, _options(fetch, picture, size, engine.local))
    for done, draft in enumerate(todo, start=len(drafts) - len(todo) + 1):
        references = {row.url: row.references for row in urls.rows(draft.number * size, size)}
        _adopt(work / "store", draft, references)
        engine.progress(stage.name, min(done * size, urls.count), urls.count)


def _check(fetch: Fetch, picture: Picture, urls: Urls) -> None:
    if find_spec("img2dataset") is None:
        raise RecipeError(
            "backend img2dataset is not installed: pip install 'lcl[img2dataset]' (Python below 3.13)"
        )
    if not fetch.allow_private:
        raise RecipeError(
            "img2dataset cannot refuse private addresses; set fetch.allow_private to accept that, "
            "or use backend lcl"
        )
    if urls.are_carried:
        raise RecipeError("img2dataset cannot read pictures that the source brings along; use backend lcl")
    standard = Fetch()
    unheld = [f"fetch.{name}" for name in _UNHELD if getattr(fetch, name) != getattr(standard, name)]
    unheld += ["picture.resample"] if picture.resample != Picture().resample else []
    if unheld:
        raise RecipeError(
            f"img2dataset has nothing like {', '.join(unheld)}; leave it out, or use backend lcl"
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
    rows = described(folder / f"{name}.parquet", folder / f"{name}.tar", references)
    members = sum(row["status"] == SUCCESS for row in rows)
    for url in references.keys() - {row["url"] for row in rows}:
        key = f"{name}{len(rows):0{len(rows[0]['key']) - len(name) if rows else 1}d}"
        failure = {"url": url, "key": key, "status": FAILED_TO_DOWNLOAD, "reason": "bad_scheme"}
        rows.append(dict.fromkeys(IMAGES.names) | failure | {"references": references[url]})
    (folder / f"{name}.tar").replace(draft.path(".tar"))
    publish(draft, rows, members)
