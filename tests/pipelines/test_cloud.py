"""The whole curation from and to object storage, against a real S3 server (and Google's stand-in): the bytes
of local folders, whoever dies, and nothing half-written there.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lcl_data.engine import Engine
from pipelines.console import Console
from pipelines.corpus import Truth
from pipelines.road import walk
from tests.pipelines.small import settings
from tests.pipelines.test_road import STAGES, tree
from tests.storage import GoogleStorage, Storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LCL = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.argv = ["lcl", *json.loads(sys.argv[1])]
from pipelines.cli import main
print("ready", flush=True)
main()
"""
TORN = 1  # the exit code of a walk that met a torn file


def lcl(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", LCL, json.dumps(arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def answer(process: "subprocess.Popen[str]", code: int = 0) -> Any:
    out, told = process.communicate()
    assert process.returncode == code and out, told
    return json.loads(out)


def chosen(root: Path, dump: str, work: str) -> list[str]:
    return settings(root, Path("nowhere"), f"work={work}", f"ingest.src={dump}", "train=null", "eval=null")


def flags(root: Path, dump: str, work: str) -> list[str]:
    return [part for setting in chosen(root, dump, work) for part in ("--set", setting)]


def stored(storage: Storage | GoogleStorage, bucket: str) -> dict[str, bytes]:
    names = (name for name in storage.names(bucket) if name.partition("/")[0] in STAGES)
    return {name: storage.content(bucket, name) for name in names}


@pytest.fixture(scope="module")
def local(corpus: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The walk over a dump with a torn file: what is said of it is the same wherever it lies."""
    work = tmp_path_factory.mktemp("local") / "work"
    assert (
        walk("demo", chosen(corpus[0], str(corpus[0] / "mmc4" / "data"), str(work)), Engine(), Console()) == 1
    )
    return work


@pytest.fixture(scope="module")
def dump(corpus: tuple[Path, Truth], storage: Storage) -> str:
    bucket = storage.bucket("dump")
    storage.upload(corpus[0] / "mmc4", bucket)
    return f"{bucket}/data"


@pytest.fixture(scope="module")
def curated(corpus: tuple[Path, Truth], storage: Storage, dump: str) -> str:
    bucket = storage.bucket("curated")
    answer(lcl("run", "demo", "--workers", "2", "--json", *flags(corpus[0], dump, bucket)), TORN)
    return bucket


def test_storage_holds_the_bytes_of_local_folders(storage: Storage, curated: str, local: Path) -> None:
    assert stored(storage, curated) == tree(local)
    assert not [name for name in storage.names(curated) if ".tmp-" in name or "exchange" in name]
    scratch = Path(os.environ["LCL_SCRATCH"])
    assert not [path for path in scratch.rglob("*") if path.is_file()]


def test_verify_and_inspect_read_storage(curated: str) -> None:
    report = answer(lcl("verify", curated, "--json"))
    assert report["problems"] == [] and report["totals"]["stages"] == 6
    assert len(answer(lcl("inspect", curated, "--json"))["stages"]) == 6
    for stage in ("documents", "images", "shards"):
        assert answer(lcl("inspect", f"{curated}/{stage}", "--json"))


def test_a_kill_anywhere_changes_nothing(
    corpus: tuple[Path, Truth], storage: Storage, dump: str, local: Path
) -> None:
    bucket = storage.bucket("killed")
    arguments = ("run", "demo", "--workers", "1", "--json", *flags(corpus[0], dump, bucket))
    for delay in (1, 3, 5):
        walking = lcl(*arguments)
        time.sleep(delay)
        os.kill(walking.pid, signal.SIGKILL)
        walking.communicate()
    answer(lcl(*arguments), TORN)
    assert stored(storage, bucket) == tree(local)


def test_googles_storage_holds_the_bytes_of_local_folders(
    corpus: tuple[Path, Truth], google_storage: GoogleStorage, local: Path
) -> None:
    dump, bucket = google_storage.bucket("dump"), google_storage.bucket("curated")
    google_storage.upload(corpus[0] / "mmc4", dump)
    arguments = ("run", "demo", "--workers", "2", "--json", *flags(corpus[0], f"{dump}/data", bucket))
    walking = lcl(*arguments)
    time.sleep(6)
    os.kill(walking.pid, signal.SIGKILL)
    walking.communicate()
    answer(lcl(*arguments), TORN)
    assert stored(google_storage, bucket) == tree(local)
    assert answer(lcl("verify", bucket, "--json"))["problems"] == []


def test_the_trainer_is_refused_with_the_remedy(storage: Storage, curated: str, tmp_path: Path) -> None:
    training = lcl("train", f"{curated}/shards", str(tmp_path / "run"))
    _, told = training.communicate()
    assert training.returncode == 2 and "copy the folder to one" in told


def test_tasks_of_a_cluster_read_and_write_storage(
    corpus: tuple[Path, Truth], storage: Storage, dump: str, local: Path, cluster_for_storage: str
) -> None:
    bucket = storage.bucket("clustered")
    where = ("--engine", "ray", "--ray-address", cluster_for_storage, "--json")
    answer(lcl("run", "demo", *where, *flags(corpus[0], dump, bucket)), TORN)
    assert stored(storage, bucket) == tree(local)
