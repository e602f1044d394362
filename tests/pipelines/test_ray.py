"""The whole curation as tasks of a Ray cluster of two nodes: the bytes of the local engine, whoever dies."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.corpus import Truth
from tests.pipelines.small import LCL, settings
from tests.pipelines.test_road import tree

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLS = """
import json, os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.stdout = sys.stderr
from lcl_data.engine import RayEngine
from schemas.errors import LclError, ShardError
address, folder = json.loads(sys.argv[1])
def place(number):
    marker = Path(folder) / str(number)
    if number % 3 == 0 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ["POLARS_MAX_THREADS"], number * number
def torn(number):
    raise ShardError(f"shard {number} is torn")
def die(number):
    os.kill(os.getpid(), signal.SIGKILL)
def told(function):
    try:
        list(RayEngine(address=address).run(function, [7]))
    except LclError as error:
        return type(error).__name__, str(error)
results = sorted(RayEngine(address=address).run(place, range(9)))
print(json.dumps([results, told(torn), told(die)]), file=sys.__stdout__)
"""


def start(program: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process: "subprocess.Popen[str]", code: int = 0) -> Any:
    out, told = process.communicate()
    assert process.returncode == code, told
    return json.loads(out)


def test_tasks_of_killed_workers_run_again_and_errors_keep_their_kind(cluster: str, tmp_path: Path) -> None:
    results, torn, died = answer(start(CALLS, cluster, str(tmp_path)))
    assert results == [[number, ["1", number * number]] for number in range(9)]
    assert torn == ["ShardError", "shard 7 is torn"]
    assert died[0] == "LclError" and "finished shards are kept" in died[1]


def test_a_cluster_writes_the_bytes_of_this_machine_though_workers_are_killed(
    cluster: str, corpus: tuple[Path, Truth], walked: Path, tmp_path: Path
) -> None:
    recipe = settings(corpus[0], tmp_path / "work", "train=null", "eval=null")
    flags = [part for setting in recipe for part in ("--set", setting)]
    walking = start(LCL, "run", "demo", "--engine", "ray", "--ray-address", cluster, "--json", *flags)
    killed: set[int] = set()
    while walking.poll() is None and len(killed) < 3:
        killed |= kill_one(killed)
    told, torn = answer(walking, code=1), corpus[1].faults["torn_shards"]
    assert killed and len(told["failed"]) == len(torn) == 1 and torn[0] in next(iter(told["failed"]))
    assert tree(tmp_path / "work") == tree(walked)


def kill_one(before: set[int]) -> set[int]:
    """Kill a worker that is in the middle of a task, if there is one."""
    for process in psutil.process_iter(["cmdline"]):
        name = (process.info["cmdline"] or [""])[0]
        if name.startswith("ray::_call") and process.pid not in before:
            process.kill()
            return {process.pid}
    return set()
