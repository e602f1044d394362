from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lcl_data.shards import Shards
from lcl_train.flops import Meter, Work, costs_of, filled, useful
from lcl_train.model import LCLModel
from lcl_train.presets import PRESETS
from lcl_train.run import Run, find_objective
from lcl_train.task import Task
from schemas.members import names
from tests.lcl_train import tiny

SIZES = {
    "vision": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 3, "heads": 2},
    "language": {"width": 192, "layers": 2, "heads": 3, "context": 512},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [tiny.document(number, pictures=1 + number % 3) for number in range(48)]
    return Shards(tiny.write_shards(tmp_path_factory.mktemp("shards"), documents))


def prepared(shards, out, **changes):
    """A task and a batch for it."""
    settings = tiny.settings(model=SIZES, pack={"row_tokens": 512}, **changes)
    run = Run(shards, out, settings)
    batches = iter(run.loader)
    batch = next(batches)
    batches.close()
    return Task(run.model, find_objective(settings)), batch


@pytest.mark.parametrize("objective", names("lcl_train.objectives"))
def test_operations_are_those_that_torch_counts(shards, tmp_path, objective):
    task, batch = prepared(shards, tmp_path, objective=objective)
    # torch counts a causal attention as if every token saw every other one of its document
    work = replace(filled(batch), seen=sum(length**2 for length in batch.segments.lengths))
    costs = costs_of(task.model)
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        task(batch)
    assert sum(costs.forward(work).values()) == pytest.approx(forward.get_total_flops(), rel=0.01)
    with FlopCounterMode(display=False) as training:
        torch.autograd.backward(task(batch).total)
    ours = costs.training(work) + costs.repeated(work, blocks=False)
    assert ours == pytest.approx(training.get_total_flops(), rel=0.01)


def test_padding_is_run_and_not_useful(shards, tmp_path):
    batch = prepared(shards, tmp_path)[1]
    needed, run = useful(batch), filled(batch)
    assert needed.tokens == batch.n_tokens < run.tokens == len(batch.tokens)
    owned = [
        length for length, document in zip(batch.segments.lengths, batch.documents, strict=True) if document
    ]
    assert needed.seen == sum(length * (length + 1) // 2 for length in owned) < run.seen
    assert needed.images == run.images == len(batch.pixels)


def test_work_adds_up():
    assert Work(images=1, tokens=2) + Work(images=3, labels=4) == Work(images=4, tokens=2, labels=4)


def test_the_encoder_of_the_paper_costs_what_is_published():
    """ViT-B/16 at 224 with its class token: 35.13 GFLOP forward (34.94 without), the pool aside."""
    with torch.device("meta"):
        costs = costs_of(LCLModel(PRESETS["base"]))
    assert costs.forward(Work(images=1))["vision"] / 1e9 == pytest.approx(35.13, abs=0.01)
    assert costs.language / 1e6 == pytest.approx(169.9, abs=0.1)
    assert 2048**2 / 2 * costs.language_attention / 1e9 == pytest.approx(77.3, abs=0.1)
    assert costs.head / 1e6 == pytest.approx(75.9, abs=0.1)


def test_shares_of_the_peak_and_none_where_it_is_not_known(shards, tmp_path):
    task, batch = prepared(shards, tmp_path)
    needed, run = Meter(costs_of(task.model), peak=1e12).count(batch)
    rates = Meter(costs_of(task.model), peak=1e12).rates(needed, run, seconds=2.0)
    assert rates["mfu"] == pytest.approx(needed / 2e12) and rates["hfu"] == pytest.approx(run / 2e12)
    assert rates["mfu"] < rates["hfu"]
    unknown = Meter(costs_of(task.model)).rates(needed, run, seconds=2.0)
    assert unknown == {"flops_per_s": needed / 2, "mfu": None, "hfu": None}


def test_what_is_made_again_counts_as_run_only(shards, tmp_path):
    task, batch = prepared(shards, tmp_path)
    costs = costs_of(task.model)
    plain, again = Meter(costs), Meter(costs, blocks_again=True)
    assert plain.count(batch)[0] == again.count(batch)[0]
    work = filled(batch)
    parts = costs.forward(work)
    more = parts["vision"] + parts["language"] - work.images * costs.stem
    assert again.count(batch)[1] - plain.count(batch)[1] == more
