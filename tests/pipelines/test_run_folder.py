"""What a training leaves in its folder is known as its own, so that a killed one can be resumed."""

import re

import pytest
from rich.console import Console

from lcl_data.folders import claim
from lcl_train.loop import train
from pipelines.training import _LEAVES
from schemas.errors import LclError, RecipeError
from tests.lcl_train import tiny

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
