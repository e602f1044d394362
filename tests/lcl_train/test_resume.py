"""Whatever stops a run, the same command goes on, and what comes of it is what an undisturbed run gives."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lcl_train import checkpoint
from lcl_train.loop import train
from lcl_train.settings import Train
from schemas.manifest import Ledger, Manifest
from schemas.overrides import settle
from tests.lcl_train import ranks, tiny

pytestmark = pytest.mark.timeout(400)  # the imports of many processes, on machines that are busy


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [tiny.document(n, pictures=1 + n % 3) for n in range(30)]
    folder = tiny.write_shards(tmp_path_factory.mktemp("resume") / "shards", documents)
    manifest = Manifest(stage="shard", digest="", settings={}, inputs=[], shards=[], ledger=Ledger())
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return folder


def files(out):
    """All that must be equal bytes."""
    newest = checkpoint.locate(out)
    return {file.name: file.read_bytes() for file in newest.glob("*.safetensors")}


def go_on(shards, out):
    torch.set_num_threads(1)
    settings = tiny.settings(steps=40, save_every_steps=2, validate_every_steps=7, ema=0.9)
    train(shards, out, settings, "auto", Console(file=io.StringIO()))


def test_a_run_killed_ten_times_is_an_undisturbed_run(shards, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert ended(ranks.started(torch.get_num_threads)) == 0  # the imports, which are not of the run
    began = time.monotonic()
    assert ended(ranks.started(go_on, shards, undisturbed)) == 0
    longest, moments, kills = (time.monotonic() - began) / 4, random.Random(0), 0
    while kills < 10:
        process = ranks.started(go_on, shards, killed)
        time.sleep(moments.uniform(0, longest))
        process.kill()
        assert ended(process) == -signal.SIGKILL, f"the run ended after {kills} kills"
        kills += 1
    assert ended(ranks.started(go_on, shards, killed)) == 0
    assert [line["step"] for line in tiny.losses(killed)] == list(range(1, 41))
    assert tiny.losses(killed) == tiny.losses(undisturbed)
    assert files(killed) == files(undisturbed)
    states = [checkpoint.read_state(checkpoint.locate(out)) for out in (killed, undisturbed)]
    assert states[0] == states[1] and states[0].best is not None
    assert not list((killed / "checkpoints").glob(".tmp-*"))


def ended(process):
    """The exit code of a process that ends."""
    process.join()
    return process.exitcode


SECTION = {**tiny.SETTINGS, "steps": 120, "save_every_steps": 4}


def on_a_rank(shards, out):
    """The same run on a rank that no torchrun started."""
    summary = train(shards, out, settle(Train, SECTION), "auto", Console(file=io.StringIO()))
    return {"step": torch.tensor(summary["step"])}


class Torchrun:
    """`lcl train` on two ranks, as a user starts it."""

    def __init__(self, shards, out):
        given = [f"--set={name}={json.dumps(value)}" for name, value in SECTION.items()]
        command = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            "-m",
            "tests.lcl_train.lcl",
        ]
        self.metrics = out / "metrics.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, *command, "train", str(shards), str(out), *given, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def wait_for_step(self, step):
        deadline = time.monotonic() + 120
        while not (self.metrics.exists() and self.metrics.read_text().count("\n") >= step):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, f"no step {step}"
            time.sleep(0.01)

    def ranks(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(c) for c in children if b"tests.lcl_train.lcl" in Path(f"/proc/{c}/cmdline").read_bytes()]

    def end(self):
        """Exit code and the JSON objects on stdout."""
        told, heard = self.process.communicate()
        self.heard = heard
        return self.process.returncode, [json.loads(line) for line in told.splitlines()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the ranks in /proc")
def test_torchrun_killed_and_stopped_is_an_undisturbed_run(shards, tmp_path):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "disturbed"
    ranks.run(on_a_rank, tmp_path, shards, undisturbed)

    killed = Torchrun(shards, out)
    killed.wait_for_step(7)
    for process in (killed.process.pid, *killed.ranks()):
        os.kill(process, signal.SIGKILL)
    killed.end()

    stopped = Torchrun(shards, out)
    stopped.wait_for_step(20)
    os.kill(stopped.ranks()[1], signal.SIGTERM)
    code, (summary,) = stopped.end()
    assert (code, summary["is_finished"]) == (0, False)
    assert stopped.heard.count(f"stopped and saved at step {summary['step']}; the same command goes on") == 1

    code, (summary,) = Torchrun(shards, out).end()
    assert (code, summary["step"], summary["is_finished"]) == (0, 120, True)
    assert tiny.losses(out) == tiny.losses(undisturbed)
    assert files(out) == files(undisturbed)
