import json
import resource

import pytest
import torch

from lcl_train import checkpoint, step_folders
from lcl_train.model import LCLModel
from lcl_train.optim import OptimizerSettings, build_optimizer
from schemas.errors import CheckpointError
from tests.lcl_train import tiny

SIZES = tiny.settings().model_settings(70)


def state(step=3, **changes):
    values = {
        "step": step,
        "settings": tiny.settings().model_dump(mode="json"),
        "model": SIZES,
        "specials": {},
        "loader": {"draws": 7},
        "versions": {},
    }
    return checkpoint.State(**{**values, **changes})


def network(seed=0, sizes=SIZES):
    torch.manual_seed(seed)
    model = LCLModel(sizes)
    optimizer = build_optimizer(model, OptimizerSettings())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return model, optimizer


@pytest.fixture
def saved(tmp_path):
    return checkpoint.save(tmp_path, state(), *network(), keep_last=2)


def test_all_tensors_and_the_generator_come_back(tmp_path):
    model, optimizer = network()
    path = checkpoint.save(tmp_path, state(), model, optimizer, keep_last=2)
    expected = torch.randn(3)
    other, other_optimizer = network(seed=1)
    read = checkpoint.restore(path, other, other_optimizer, SIZES)
    assert torch.equal(torch.randn(3), expected)
    assert read == state()
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
        kept, restored = optimizer.state[mine], other_optimizer.state[theirs]
        assert kept.keys() == restored.keys()
        assert all(torch.equal(kept[quantity], restored[quantity]) for quantity in kept), name


def test_only_the_newest_are_kept_and_drafts_are_swept(tmp_path):
    (tmp_path / ".tmp-step-00000009").mkdir()
    for step in (5, 10, 15):
        checkpoint.save(tmp_path, state(step), *network(), keep_last=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000010", "step-00000015"]
    assert checkpoint.locate(tmp_path).name == "step-00000015"


def test_the_best_is_kept_until_another_is_better(tmp_path):
    folder = tmp_path / "checkpoints"
    for step, best in {5: None, 10: 10, 15: 10, 20: 20, 25: 20}.items():
        mark = best and checkpoint.Best(step=best, metric="val/total", value=1 / best)
        checkpoint.save(folder, state(step, best=mark), *network(), keep_last=1)
        kept = sorted({step, best or step})
        assert [checkpoint.read_state(path).step for path in step_folders.checkpoints(folder)] == kept
        if best:
            assert checkpoint.read_state(checkpoint.locate(tmp_path / "best")).step == best


def test_going_back_forgets_what_came_after(tmp_path):
    mark = checkpoint.Best(step=15, metric="val/total", value=1.0)
    for step in (5, 10, 15):
        checkpoint.save(tmp_path, state(step, best=mark if step == 15 else None), *network(), keep_last=3)
    assert checkpoint.locate(tmp_path / "best").name == "step-00000015"
    step_folders.cut(tmp_path, 10)
    assert [path.name for path in step_folders.checkpoints(tmp_path)] == ["step-00000005", "step-00000010"]
    with pytest.raises(CheckpointError, match="knows no best checkpoint; give the folder of the run itself"):
        checkpoint.locate(tmp_path / "best")


def test_a_run_finds_its_newest_checkpoint(tmp_path):
    path = checkpoint.save(tmp_path / "checkpoints", state(), *network(), keep_last=1)
    assert checkpoint.locate(tmp_path) == path
    assert checkpoint.locate(path) == path


def test_equal_states_are_equal_bytes(tmp_path):
    torch.manual_seed(5)
    first = checkpoint.save(tmp_path / "a", state(), *network(), keep_last=1)
    second = checkpoint.save(tmp_path / "b", state(), *network(), keep_last=1)
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name


def test_another_network_is_refused_with_the_culprit(saved):
    sizes = tiny.settings(model={"vision": {"width": 64}}).model_settings(70)
    with pytest.raises(CheckpointError, match=r"vision\.width is 32 in the checkpoint, 64 here"):
        checkpoint.restore(saved, *network(sizes=sizes), sizes)


def trap(file):
    """A pickle that leaves a file behind if it is loaded."""
    return f"cposix\nsystem\n(S'touch {file}'\ntR.".encode()


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "weights.pkl", "pytorch_model.bin", "last.ckpt"])
def test_a_pickle_is_refused_unread(tmp_path, name):
    (tmp_path / name).write_bytes(trap(tmp_path / "sprung"))
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(CheckpointError, match="a pickle, which runs code"):
            checkpoint.locate(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors"])
def test_a_pickle_under_another_name_is_refused_unread(saved, tmp_path, name):
    (saved / name).write_bytes(trap(tmp_path / "sprung"))
    with pytest.raises(CheckpointError, match="torn, or no safetensors file"):
        checkpoint.restore(saved, *network(), SIZES)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json"])
def test_a_torn_file_is_refused(saved, name):
    (saved / name).write_bytes((saved / name).read_bytes()[:200])
    with pytest.raises(CheckpointError, match="take an earlier"):
        checkpoint.restore(saved, *network(), SIZES)


def test_a_newer_layout_is_refused(saved):
    values = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(json.dumps({**values, "version": 2}))
    with pytest.raises(CheckpointError, match="upgrade lcl"):
        checkpoint.read_state(saved)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.locate(tmp_path / "nowhere")


def test_another_optimizer_is_refused(saved):
    model = LCLModel(SIZES)
    with pytest.raises(CheckpointError, match=r"optimizer\.name was adamw, is muon"):
        checkpoint.restore(saved, model, build_optimizer(model, OptimizerSettings(name="muon")), SIZES)


def test_a_checkpoint_half_removed_is_none(tmp_path, monkeypatch):
    def killed(path):
        (path / "state.json").unlink()
        raise KeyboardInterrupt

    for step in (5, 10):
        checkpoint.save(tmp_path, state(step), *network(), keep_last=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(step_folders.shutil, "rmtree", killed)
        step_folders.cut(tmp_path, 5)
    assert checkpoint.read_state(checkpoint.locate(tmp_path)).step == 5
    step_folders.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_a_full_disk_is_told_as_one(tmp_path):
    checkpoint.save(tmp_path, state(5), *network(), keep_last=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors"):
            checkpoint.save(tmp_path, state(10), *network(), keep_last=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
