import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from rich.console import Console

from lcl_data.shards import Shards
from lcl_train import checkpoint, step_folders
from lcl_train.loop import train
from lcl_train.run import Run
from schemas.errors import CheckpointError, LclError, RecipeError
from tests.lcl_train import tiny

DOCUMENTS = [tiny.document(number, pictures=1 + number % 2) for number in range(32)]
QUIET = Console(quiet=True)
CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from lcl_train import checkpoint
from lcl_train.loop import train
from tests.lcl_train import tiny

torch.set_num_threads(1)
sync, calls = checkpoint._sync, []

def killed(path):
    calls.append(path)
    if len(calls) == 7:  # of the 5 per checkpoint: in the middle of the second one
        os.kill(os.getpid(), signal.SIGKILL)
    sync(path)

checkpoint._sync = killed
train(sys.argv[1], Path(sys.argv[2]), tiny.settings())
"""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny.write_shards(tmp_path_factory.mktemp("shards"), DOCUMENTS)


def wait_for_lines(file, count, alive=lambda: True):
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text().count("\n") >= count):
        assert alive() and time.monotonic() < deadline, f"{file} has no {count} lines"
        time.sleep(0.01)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(shards, tmp_path):
    undisturbed, tmp_path = tmp_path / "undisturbed", tmp_path / "killed"
    train(shards, undisturbed, tiny.settings(), "never", QUIET)
    child = subprocess.run([sys.executable, "-c", CHILD, str(shards), str(tmp_path)])
    assert child.returncode == -signal.SIGKILL
    assert [line["step"] for line in tiny.losses(tmp_path)] == list(range(1, 11))
    assert checkpoint.read_state(checkpoint.locate(tmp_path)).step == 5
    assert list((tmp_path / "checkpoints").glob(".tmp-*"))
    train(shards, tmp_path, tiny.settings(), "auto", QUIET)
    assert [line["step"] for line in tiny.losses(tmp_path)] == list(range(1, 21))
    assert tiny.losses(tmp_path) == tiny.losses(undisturbed)
    final = "checkpoints/step-00000020/model.safetensors"
    assert (tmp_path / final).read_bytes() == (undisturbed / final).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_ctrl_c_save_and_return(shards, tmp_path, number):
    def terminate():
        wait_for_lines(tmp_path / "metrics.jsonl", 7)
        os.kill(os.getpid(), number)

    killer = threading.Thread(target=terminate)
    killer.start()
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    summary = train(shards, tmp_path, tiny.settings(steps=100_000, save_every_steps=100_000), "auto", QUIET)
    killer.join()
    assert not summary["is_finished"]
    assert summary["step"] >= 7
    assert checkpoint.read_state(checkpoint.locate(tmp_path)).step == summary["step"]
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_few_documents_are_learnt_by_heart(tmp_path):
    documents = [tiny.document(number) for number in range(12)]
    shards = tiny.write_shards(tmp_path / "shards", documents)
    settings = tiny.settings(
        steps=120,
        rows=4,
        objective={"lcl": {"contrastive_weight": 1.0}},
        optimizer={"lr": 5e-3, "weight_decay": 0.0},
        save_every_steps=120,
    )
    summary = train(shards, tmp_path / "run", settings, "never", QUIET)
    losses = tiny.losses(tmp_path / "run")
    assert losses[0]["loss/recall_at_1"] < 0.5
    assert summary["losses"]["recall_at_1"] > 0.9
    assert summary["losses"]["generation"] < 1.0


def test_the_run_tells_what_it_did(shards, tmp_path):
    console = Console(record=True, width=300, force_terminal=False, file=(tmp_path / "out").open("w"))
    summary = train(shards, tmp_path / "run", tiny.settings(), "never", console)
    assert summary["steps"] == summary["step"] == 20
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    rates = {"images_per_s", "tokens_per_s", "fill", "image_fill", "data_wait", "step_s", "memory_gb"}
    rates |= {"flops_per_s", "mfu", "hfu"}
    assert rates <= lines[-1].keys() and rates == summary["rates"].keys()
    assert 0.5 < summary["rates"]["fill"] <= 1
    assert lines[-1]["flops_per_s"] > 0 and lines[-1]["mfu"] is None
    shown = console.export_text()
    assert "mfu n/a" in shown
    assert "step 20/20" in shown and "eta 0:00:00" in shown and "recall_at_1" in shown
    console.file.close()


def test_a_terminal_gets_a_panel(shards, tmp_path):
    with (tmp_path / "out").open("w") as file:
        console = Console(force_terminal=True, width=100, file=file)
        train(shards, tmp_path / "run", tiny.settings(steps=2), "never", console)
    shown = (tmp_path / "out").read_text()
    assert "images_per_s" in shown and "step 2/2" in shown


def test_a_finished_run_is_left_alone_and_tells_the_same(shards, tmp_path):
    first = train(shards, tmp_path, tiny.settings(), "auto", QUIET)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = train(shards, tmp_path, tiny.settings(), "auto", QUIET)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert set(again.pop("rates").values()) == {None} and first.pop("rates")["fill"] > 0.5
    assert again == first and first["is_finished"] and first["losses"]["total"] > 0
    with pytest.raises(RecipeError, match="holds a run"):
        train(shards, tmp_path, tiny.settings(), "never", QUIET)


def test_a_finished_run_under_other_settings_is_refused_where_no_step_is_left_to_learn_them(shards, tmp_path):
    train(shards, tmp_path / "run", tiny.settings(steps=4), "auto", QUIET)
    before = (tmp_path / "run/settings.json").read_bytes()
    for changes, told in (
        ({"steps": 4, "optimizer": {"lr": 1e-4}}, r"optimizer\.lr is 0\.003 in the checkpoint, 0\.0001 here"),
        ({"steps": 3}, "steps is 4 in the checkpoint, 3 here"),
    ):
        with pytest.raises(RecipeError, match=rf"nothing would be learnt; raise steps .*new folder; {told}"):
            train(shards, tmp_path / "run", tiny.settings(**changes), "auto", QUIET)
    with pytest.raises(RecipeError, match="nothing would be learnt"):
        train(shards, tmp_path / "other", tiny.settings(steps=4), tmp_path / "run", QUIET)
    assert (tmp_path / "run/settings.json").read_bytes() == before
    told = train(shards, tmp_path / "run", tiny.settings(steps=4, workers=0, log_every=3), "auto", QUIET)
    assert told["is_finished"] and told["step"] == 4


def test_settings_that_change_on_the_way_are_told(shards, tmp_path):
    with (tmp_path / "out").open("w") as file:
        console = Console(width=300, force_terminal=False, file=file)
        train(shards, tmp_path / "run", tiny.settings(steps=2), "auto", console)
        train(shards, tmp_path / "run", tiny.settings(steps=4, optimizer={"lr": 1e-4}), "auto", console)
    told = "goes on under other settings: optimizer.lr is 0.003 in the checkpoint, 0.0001 here; steps is 2 in"
    assert (tmp_path / "out").read_text().count(told) == 1


def test_going_on_from_an_earlier_checkpoint_cuts_what_came_after(shards, tmp_path):
    train(shards, tmp_path, tiny.settings(keep_last=4), "auto", QUIET)
    before = tiny.losses(tmp_path)
    earlier = tmp_path / "checkpoints/step-00000010"
    train(shards, tmp_path, tiny.settings(keep_last=4), earlier, QUIET)
    assert tiny.losses(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": {"vision": {"width": 64}}}, r"vision\.width is 32 in the checkpoint, 64 here"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"pack": {"row_images": 5}}, "row_images was 8, is 5"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(shards, tmp_path, changes, named):
    train(shards, tmp_path, tiny.settings(steps=1), "auto", QUIET)
    with pytest.raises(CheckpointError, match=named):
        train(shards, tmp_path, tiny.settings(**changes), "auto", QUIET)


def test_a_loss_that_is_no_number_stops_the_run_and_saves_nothing(shards, tmp_path):
    wild = tiny.settings(optimizer={"lr": 1e30, "warmup_steps": 0}, save_every_steps=1, log_every=1)
    with pytest.raises(LclError, match=r"is no number; .*lower optimizer\.lr"):
        train(shards, tmp_path, wild, "auto", QUIET)
    step = len(tiny.losses(tmp_path))
    saved = step_folders.checkpoints(tmp_path / "checkpoints")
    assert [checkpoint.read_state(path).step for path in saved][-1:] in (
        [],
        [step],
    )


def test_rows_may_be_longer_than_the_context_where_documents_are_not(shards, tmp_path):
    pack = {"row_tokens": 256, "part_tokens": 64, "row_images": 64, "lookahead": 64}
    told = train(shards, tmp_path, tiny.settings(steps=2, pack=pack), "never", QUIET)
    assert told["step"] == 2 and told["rates"]["fill"] > 0.9


def test_documents_longer_than_the_context_are_refused(shards, tmp_path):
    with pytest.raises(RecipeError, match=r"pack\.part_tokens 65: at most .*context, 64"):
        train(shards, tmp_path, tiny.settings(pack={"row_tokens": 256, "part_tokens": 65}), "auto", QUIET)
    with pytest.raises(RecipeError, match=r"pack\.row_tokens 65: at most .*context, 64"):
        train(shards, tmp_path, tiny.settings(pack={"row_tokens": 65}), "auto", QUIET)


def test_minutes_are_a_reason_to_save_too(shards, tmp_path):
    settings = tiny.settings(steps=3, save_every_steps=100, save_every_minutes=1e-9, keep_last=9)
    train(shards, tmp_path, settings, "never", QUIET)
    saved = step_folders.checkpoints(tmp_path / "checkpoints")
    assert [checkpoint.read_state(path).step for path in saved] == [1, 2, 3]


def test_the_checkpoint_of_another_run_does_not_go_on_in_a_folder_that_holds_one(shards, tmp_path):
    for name in ("mine", "theirs"):
        train(shards, tmp_path / name, tiny.settings(steps=2), "never", QUIET)
    with pytest.raises(RecipeError, match=r"holds a run, and .* is of another; take a new folder"):
        train(shards, tmp_path / "mine", tiny.settings(steps=4), tmp_path / "theirs", QUIET)
    told = train(shards, tmp_path / "third", tiny.settings(steps=4), tmp_path / "theirs", QUIET)
    assert told["step"] == 4


def test_weights_that_are_no_numbers_are_not_saved(shards, tmp_path):
    run = Run(Shards(shards), tmp_path, tiny.settings())
    run.save()
    run.step, run.model.head.weight.data[0, 0] = 1, float("inf")
    with pytest.raises(LclError, match="the update made weights that are no numbers"):
        run.save()
    assert [path.name for path in step_folders.checkpoints(tmp_path / "checkpoints")] == ["step-00000000"]
