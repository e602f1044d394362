import io

import pytest
import torch
from rich.console import Console

from lcl_data.shards import Shards
from lcl_train import accumulate
from lcl_train.loader import Fitting, Loader
from lcl_train.loop import train
from lcl_train.model import LCLModel
from lcl_train.objectives import Objective
from lcl_train.task import Task
from schemas.errors import RecipeError
from schemas.members import build
from tests.lcl_train import tiny

OBJECTIVES = [
    "lcl",
    {"lcl": {"contrast": {"kind": "sigmoid"}}},
    "clip",
    "blip2",
    "generation",
    "generation_regression",
    "masked",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [tiny.document(n % 20, pictures=1 + n % 3) | {"id": f"{n:032x}"} for n in range(30)]
    return tiny.write_shards(tmp_path_factory.mktemp("shards"), documents)


def learnt(shards, objective, parts, is_half=False):
    """The loss of a step of four rows in some micro-batches, and its gradients."""
    objective = build("lcl_train.objectives", objective, Objective)
    sizes = tiny.settings().model_settings(70)
    torch.manual_seed(0)
    task = Task(LCLModel(sizes, objective.heads(sizes)), objective)
    pack = tiny.settings().pack
    fitting = Fitting(4, pack, task.model.slots, 16, seed=5, layout=objective.layout, accumulate=parts)
    batches = iter(Loader(Shards(shards), fitting, workers=0))
    loss = accumulate.backward(task, task, [next(batches) for _ in range(parts)], is_half)
    return loss, {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_micro_batches_are_the_whole_batch(shards, objective):
    whole, expected = learnt(shards, objective, 1)
    for parts in (2, 4):
        loss, gradients = learnt(shards, objective, parts)
        torch.testing.assert_close(loss.parts, whole.parts, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(loss.counts, whole.counts)
        assert len(loss.latents) == len(whole.latents)
        norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm().item()
        torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-6 * norm)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("objective", ["lcl", "blip2", "masked"])
def test_half_precision_gives_the_same_losses_and_direction_to_its_rounding(shards, objective, parts):
    whole, exact = learnt(shards, objective, 1)
    loss, gradients = learnt(shards, objective, parts, is_half=True)
    terms = [name for name in whole.parts if "recall" not in name and name != "bound"]
    for name in terms:
        torch.testing.assert_close(loss.parts[name], whole.parts[name], rtol=2e-2, atol=1e-3)
    assert gradients.keys() == exact.keys() and loss.parts["total"] != whole.parts["total"]
    flat, expected = (torch.cat([x[name].flatten() for name in exact]) for x in (gradients, exact))
    assert torch.cosine_similarity(flat, expected, dim=0) > 0.995


def test_the_contrast_is_among_the_images_of_all_micro_batches(shards):
    whole, _ = learnt(shards, "clip", 1)
    loss, _ = learnt(shards, "clip", 4)
    assert loss.parts["log_candidates"] == whole.parts["log_candidates"] > 1.5


def test_a_run_may_change_its_micro_batches_on_the_way(shards, tmp_path):
    given = {"rows": 4, "steps": 6, "save_every_steps": 2, "optimizer": {"eps": 1e-2}}
    for out, parts, start in (("whole", 1, "never"), ("two", 2, "whole"), ("four", 4, "two")):
        where = (
            start if start == "never" else tmp_path / start / f"checkpoints/step-0000000{2 * (parts // 2)}"
        )
        settings = tiny.settings(**given, accumulate=parts, keep_last=3)
        train(shards, tmp_path / out, settings, where, Console(file=io.StringIO()))
    for out in ("two", "four"):
        there, here = tiny.losses(tmp_path / "whole")[-1], tiny.losses(tmp_path / out)[-1]
        assert here == pytest.approx(there, rel=1e-5, abs=1e-6)


def test_more_micro_batches_than_rows_are_refused(shards, tmp_path):
    with pytest.raises(RecipeError, match="rows 2: 1 ranks need one each for every of their 3 micro-batches"):
        train(shards, tmp_path, tiny.settings(accumulate=3), "never", Console(quiet=True))
