"""A road killed twenty times, and one that runs out of disk: the bytes are those of an undisturbed run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from lcl_data.verify import verify
from pipelines.corpus import Truth
from tests.lcl_data.corpus import bytes_of
from tests.pipelines.small import LCL, settings
from tests.pipelines.test_road import STAGES, tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = 20


def command(root: Path, work: Path, *flags: str) -> list[str]:
    recipe = settings(root, work, "train=null", "eval=null", "download.images_per_shard=20")
    sets = [part for setting in recipe for part in ("--set", setting)]
    return [sys.executable, "-c", LCL, json.dumps(["run", "demo", *flags, *sets])]


def published(work: Path) -> int:
    """How many files have their final names."""
    count = 0
    for folder, names, files in os.walk(work):
        names[:] = [name for name in names if name != "exchange" and not name.startswith(".tmp-")]
        count += sum(not name.startswith(".tmp-") for name in files) if Path(folder) != work else 0
    return count


@pytest.fixture(scope="module")
def shards(corpus: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents of the corpus in a dozen files, so that there are many moments between two of them."""
    root = tmp_path_factory.mktemp("many")
    data = root / "mmc4" / "data"
    data.mkdir(parents=True)
    torn = corpus[1].faults["torn_shards"]
    (whole,) = (path for path in (corpus[0] / "mmc4" / "data").iterdir() if path.name not in torn)
    with zipfile.ZipFile(whole) as archive:
        lines = archive.read(archive.namelist()[0]).splitlines(keepends=True)
    for number in range(12):
        (data / f"docs_shard_{number}_v2.jsonl").write_bytes(b"".join(lines[number::12]))
    return root


@pytest.fixture(scope="module")
def calm(shards: Path) -> Path:
    """What an undisturbed run makes of them."""
    work = shards / "calm"
    subprocess.run(command(shards, work), capture_output=True, check=True)
    return work


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_twenty_times_it_ends_in_the_same_bytes(
    engine: str, shards: Path, calm: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    flags = ["--engine", engine]
    if engine == "ray":
        flags += ["--ray-address", request.getfixturevalue("cluster")]
    work, chance = tmp_path / "work", random.Random(engine)
    killed_in = []
    for wanted in sorted(chance.sample(range(published(calm)), KILLS)):
        process = subprocess.Popen(command(shards, work, *flags), stderr=subprocess.DEVNULL)
        while published(work) < wanted and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.random() / 20)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed_in.append(max((s for s in STAGES if (work / s).exists()), key=STAGES.index, default=""))
    assert len(set(killed_in)) > 3  # in the middle of most stages
    subprocess.run(command(shards, work, *flags), capture_output=True, check=True)
    assert tree(work) == tree(calm)


# In a mount namespace of its own: a disk of a few megabytes, made larger once it has been full.
DISK = """
set -e
mount -t tmpfs -o size=$1 tmpfs "$2"
shift
disk=$1; copy=$2; shift 2
set +e
"$@" 2> "$copy/first"; echo $? > "$copy/code"
set -e
cp -r "$disk" "$copy/full"
mount -o remount,size=1g "$disk"
set +e
"$@" 2> "$copy/second"
cp -r "$disk" "$copy/whole"
"""


def on_a_full_disk(size: int, command: list[str], disk: Path, copy: Path) -> None:
    """Run a command twice, on a disk of this size and once that is larger; `copy` gets what it left."""
    spaces = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*spaces, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no mount namespace, so no disk can be made that is full")
    disk.mkdir()
    copy.mkdir()
    script = ["sh", "-c", DISK, "sh", str(size), str(disk), str(copy)]
    done = subprocess.run([*spaces, *script, *command], capture_output=True, text=True, check=False)
    told = (copy / "first").read_text()
    assert (copy / "code").read_text().strip() == "1", done.stderr
    assert "the disk is full" in told and "run the same command again" in told and "Traceback" not in told


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_disk_that_fills_in_an_exchange_is_told(workers: str, calm: Path, tmp_path: Path) -> None:
    disk, copy, fresh = tmp_path / "disk", tmp_path / "copy", tmp_path / "fresh"
    dedupe = ["dedupe", str(calm / "documents")]
    flags = ["-u", "exact_document", "-u", "near_document", "--workers", workers]
    arguments = ([*dedupe, str(out), *flags] for out in (disk, fresh))
    first, again = ([sys.executable, "-c", LCL, json.dumps(each)] for each in arguments)
    on_a_full_disk(32_768, first, disk, copy)
    assert list((copy / "full").glob("exchange/*/keys")) and not list((copy / "full").rglob(".tmp-*"))
    subprocess.run(again, capture_output=True, check=True)
    assert bytes_of(copy / "whole") == bytes_of(fresh)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_full_disk_is_told_and_loses_nothing(
    share: float, shards: Path, calm: Path, tmp_path: Path
) -> None:
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    size = sum(len(content) for content in tree(calm).values())
    on_a_full_disk(int(size * share), command(shards, disk), disk, copy)
    finished = [path.parent for path in (copy / "full").glob("*/manifest.json")]
    assert finished and not any(problem for folder in finished for problem in verify(folder).problems)
    assert tree(copy / "whole") == tree(calm)
    shutil.rmtree(copy)
