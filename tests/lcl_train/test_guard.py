import json
import resource
from dataclasses import fields

import pytest
import torch
from rich.console import Console

from lcl_data.shards import Shards
from lcl_train import checkpoint
from lcl_train.guard import kept_batches
from lcl_train.loop import train
from lcl_train.replay import replay
from lcl_train.run import Run
from schemas.errors import LclError
from tests.lcl_train import tiny

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [tiny.document(number, pictures=1 + number % 2) for number in range(32)]
    return tiny.write_shards(tmp_path_factory.mktemp("shards"), documents)


@pytest.fixture(scope="module")
def wild(shards, tmp_path_factory):
    """A run that broke, and what it said."""
    out = tmp_path_factory.mktemp("wild")
    settings = tiny.settings(optimizer={"lr": 1e30, "warmup_steps": 0}, save_every_steps=1, log_every=100)
    with pytest.raises(LclError) as error:
        train(shards, out, settings, "never", QUIET)
    return out, str(error.value)


def test_the_error_names_the_step_the_values_the_batch_and_its_documents(wild):
    out, said = wild
    (folder,) = out.glob("nan-step-*/rank-0")
    facts = json.loads((folder / "facts.json").read_text())
    assert said.startswith(f"step {facts['step']}: ") and "is no number" in said and str(folder) in said
    documents = [document for document in facts["batches"][0]["documents"] if document]
    assert documents and documents[0] in said
    assert {len(document) for document in documents} == {32}
    wrong = [name for name, value in facts["values"].items() if isinstance(value, str)]
    assert wrong and all(name in said for name in wrong)
    assert facts["settings"]["optimizer"]["lr"] == 1e30


def test_the_kept_batch_is_the_one_of_the_step_and_the_weights_are_those_before_it(wild, shards):
    out, _ = wild
    (folder,) = out.glob("nan-step-*/rank-0")
    step = json.loads((folder / "facts.json").read_text())["step"]
    settings = tiny.settings(optimizer={"lr": 1e30, "warmup_steps": 0})
    loader = iter(Run(Shards(shards), out, settings).loader)
    for _ in range(step):
        expected = next(loader)
    loader.close()
    (kept,) = kept_batches(folder)
    for name in (field.name for field in fields(kept) if field.name != "segments"):
        mine, theirs = getattr(kept, name), getattr(expected, name)
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs, name
    assert kept.segments.lengths == expected.segments.lengths
    last = checkpoint.locate(out)
    assert checkpoint.read_state(last).step == step - 1
    assert (folder / "model.safetensors").read_bytes() == (last / "model.safetensors").read_bytes()


def test_a_replay_breaks_as_the_step_did_and_says_where(wild):
    out, _ = wild
    (folder,) = out.glob("nan-step-*/rank-0")
    facts = json.loads((folder / "facts.json").read_text())
    found = replay(folder)
    assert {"loss/total", "grad_norm"} <= found["values"].keys()
    for name, again in found["values"].items():
        assert facts["values"][name] in (again, str(again)), name
    assert found["weights"] == str(folder / "model.safetensors")
    assert found["first"].startswith("vision.vit.")


def test_where_the_weights_were_broken_the_replay_takes_the_last_checkpoint(shards, tmp_path):
    train(shards, tmp_path, tiny.settings(steps=5), "never", QUIET)
    run = Run(Shards(shards), tmp_path, tiny.settings())
    run.resume("auto")
    with torch.no_grad():
        run.model.language.blocks[0].fc1.weight[0, 0] = torch.nan
    batches = iter(run.loader)
    with pytest.raises(LclError, match=r"step 6: .*is no number"):
        run.advance(next(batches))
    batches.close()
    folder = tmp_path / "nan-step-00000006/rank-0"
    assert not (folder / "model.safetensors").exists()
    found = replay(folder)
    assert found["weights"].endswith("step-00000005")
    assert found["first"] is None and all(value < 1e9 for value in found["values"].values())


def test_on_a_full_disk_the_step_is_told_all_the_same(shards, tmp_path):
    run = Run(Shards(shards), tmp_path, tiny.settings())
    with torch.no_grad():
        run.model.language.blocks[0].fc1.weight[0, 0] = torch.nan
    batches = iter(run.loader)
    batch = next(batches)
    batches.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(LclError, match=r"step 1: .*is no number; its batch could not be kept: .*: free"):
            run.advance(batch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("rank-0"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_update_is_held_back_until_the_step_is_looked_at(shards, tmp_path):
    run = Run(Shards(shards), tmp_path, tiny.settings(device="cuda", dtype="float32"))
    batches = iter(run.loader)
    for _ in range(2):
        run.advance(next(batches))
    before = [parameter.detach().clone() for parameter in run.model.parameters()]
    hook = run.model.head_norm.register_forward_hook(lambda _, __, made: made * torch.nan)
    run.advance(next(batches))
    hook.remove()
    run.advance(next(batches))
    with pytest.raises(LclError, match=r"step 3: .*is no number"):
        run.advance(next(batches))
    batches.close()
    for mine, kept in zip(run.model.parameters(), before, strict=True):
        assert torch.equal(mine, kept)
    assert (tmp_path / "nan-step-00000003/rank-0/model.safetensors").exists()
