"""The plain padded path that the benchmark times computes what the trainer computes, to the last gradient."""

import pytest
import torch

from benchmarks import train_step
from lcl_data.shards import Shards
from lcl_train.task import Task
from tests.lcl_train import tiny


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [tiny.document(number, pictures=1 + number % 3) for number in range(48)]
    return Shards(tiny.write_shards(tmp_path_factory.mktemp("shards"), documents))


@pytest.fixture(scope="module")
def drawn(shards):
    """A model with weights far from their start, and a packed batch of documents with and without context."""
    model, batches = train_step.prepared(shards, tiny.settings(steps=1))
    for parameter in model.parameters():
        if parameter.ndim:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model, batches[0], shards.special_tokens


@pytest.mark.parametrize("recompute", [False, True])
def test_the_plain_path_equals_ours(drawn, recompute):
    model, batch, specials = drawn
    plain = train_step.padded(batch, specials, context=64)
    assert len(plain.tokens) == batch.n_parts > 2
    losses, gradients = [], []
    for compute in (
        lambda: Task(model, train_step.LCL)(batch).total,
        lambda: train_step.plain_loss(model, plain, specials, recompute),
    ):
        model.zero_grad()
        (loss := compute()).backward()
        losses.append(loss)
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_both_sides_take_the_same_steps(shards):
    found = [train_step.measure(side, shards, tiny.settings(steps=3)) for side in train_step.SIDES]
    for other in found[1:]:
        train_step.check_equal(found[0], other, 1e-3)
        assert other["tokens"] == found[0]["tokens"] and other["images"] == found[0]["images"]
    assert len(found[0]["losses"]) == 4
    assert found[0]["positions"] == found[2]["positions"] < found[1]["positions"] == found[3]["positions"]


def test_a_difference_stops_the_benchmark():
    one = {"side": "ours", "losses": [2.0], "norms": [1.0]}
    train_step.check_equal(one, {**one, "losses": [2.001]}, 1e-3)
    with pytest.raises(SystemExit, match="norms differ"):
        train_step.check_equal(one, {**one, "norms": [1.1]}, 1e-3)
