"""What a training leaves in its folder is known as its own, so that a killed one can be resumed."""

import os
import re
import signal
import threading

import pytest
from rich.console import Console

from lcl_data.folders import claim
from lcl_train.loop import train
from pipelines import console, training
from pipelines.training import _LEAVES
from schemas.errors import LclError, RecipeError
from schemas.manifest import MANIFEST, Ledger, Manifest
from tests.lcl_train import tiny
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


def test_a_folder_with_a_checkpoint_is_the_runs_own_whatever_else_is_put_there(tmp_path):
    shards, out = (
        tiny.write_shards(tmp_path / "shards", [tiny.document(n) for n in range(30)]),
        tmp_path / "run",
    )
    manifest = Manifest(stage="shard", digest="", settings={}, inputs=[], shards=[], ledger=Ledger())
    (shards / MANIFEST).write_bytes(manifest.to_bytes())

    def go_on(steps):
        changes = [f"steps={steps}"]
        return training.train([shards], out, tiny.SETTINGS, changes, "auto", console.Console())

    def terminate():
        wait_for_lines(out / "metrics.jsonl", 5)
        os.kill(os.getpid(), signal.SIGTERM)

    assert go_on(2)["is_finished"]
    (out / "notes.txt").touch()
    killer = threading.Thread(target=terminate)
    killer.start()
    stopped = go_on(10**6)
    killer.join()
    assert not stopped["is_finished"] and not (out / MANIFEST).exists()
    assert training.stage_of([shards], out, tiny.SETTINGS).pending() == "begun and not finished"
    assert go_on(stopped["step"])["is_finished"]
