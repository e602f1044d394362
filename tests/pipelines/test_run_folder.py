"""What a training leaves in its folder is known as its own, so that a killed one can be resumed."""

import os
import re
import signal
import threading
import time

import pytest
import torch
from rich.console import Console

from lcl_data.folders import claim
from lcl_train import parallel
from lcl_train.loop import train
from pipelines import console, training
from pipelines.training import _LEAVES
from schemas.errors import LclError, RecipeError
from schemas.manifest import MANIFEST, Ledger, Manifest
from tests.lcl_train import ranks, tiny
from tests.lcl_train.test_loop import wait_for_lines

QUIET = Console(quiet=True)


def _train(root, **changes):
    shards = tiny.write_shards(root / "shards", [tiny.document(n) for n in range(30)])
    train(shards, root / "run", tiny.settings(steps=2, **changes), "never", QUIET)


def test_a_run_with_trackers(tmp_path):
    for library in ("tensorboard", "trackio", "wandb"):
        pytest.importorskip(library)
    _train(tmp_path, track=["tensorboard"])
    (tmp_path / "run/wandb").mkdir()
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"tensorboard", "trackers.json"}
    claim(tmp_path / "run", "train", _LEAVES)


def test_a_run_whose_loss_was_no_number(tmp_path):
    with pytest.raises(LclError, match="no number"):
        _train(tmp_path, optimizer={"lr": 1e30, "warmup_steps": 0})
    claim(tmp_path / "run", "train", _LEAVES)


def test_what_no_run_leaves_is_in_the_way(tmp_path):
    _train(tmp_path)
    (tmp_path / "run/notes.txt").touch()
    with pytest.raises(RecipeError, match=re.escape("holds 'notes.txt', which is not of `train`")):
        claim(tmp_path / "run", "train", _LEAVES)


@pytest.fixture
def shards(tmp_path):
    folder = tiny.write_shards(tmp_path / "shards", [tiny.document(n) for n in range(30)])
    manifest = Manifest(stage="shard", digest="", settings={}, inputs=[], shards=[], ledger=Ledger())
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return folder


def go_on(shards, out, steps):
    return training.train([shards], out, tiny.SETTINGS, [f"steps={steps}"], "auto", console.Console())


def test_a_folder_with_a_checkpoint_is_the_runs_own_whatever_else_is_put_there(shards, tmp_path):
    out = tmp_path / "run"

    def terminate():
        wait_for_lines(out / "metrics.jsonl", 5)
        os.kill(os.getpid(), signal.SIGTERM)

    assert go_on(shards, out, 2)["is_finished"]
    (out / "notes.txt").touch()
    killer = threading.Thread(target=terminate)
    killer.start()
    stopped = go_on(shards, out, 10**6)
    killer.join()
    assert not stopped["is_finished"] and not {MANIFEST, training.SUMMARY} & {p.name for p in out.iterdir()}
    assert training.stage_of([shards], out, tiny.SETTINGS).pending() == "begun and not finished"
    assert go_on(shards, out, stopped["step"])["is_finished"]


def test_a_command_that_is_refused_leaves_a_finished_run_as_it_was(shards, tmp_path):
    out = tmp_path / "run"
    go_on(shards, out, 4)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for change in ("seed=5", "optimizer.lr=1e-5", "steps=3"):
        with pytest.raises(LclError):
            training.train([shards], out, tiny.SETTINGS, ["steps=4", change], "auto", console.Console())
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def late(shards, out):
    """Rank 1 comes a second after rank 0; what it finds then, and what comes of the run."""
    if parallel.rank():
        time.sleep(1)
    is_there = (out / MANIFEST).exists()
    return {"is_there": torch.tensor(is_there), "step": torch.tensor(go_on(shards, out, 4)["step"])}


def test_what_a_finished_run_says_stands_until_every_rank_has_read_it(shards, tmp_path):
    out = tmp_path / "run"
    go_on(shards, out, 2)
    found = ranks.run(late, tmp_path, shards, out)
    assert [(rank["is_there"].item(), rank["step"].item()) for rank in found] == [(True, 4), (True, 4)]
    assert (out / MANIFEST).exists()
