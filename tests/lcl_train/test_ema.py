import pytest
import torch
from rich.console import Console
from torch import nn

from lcl_data.shards import Shards
from lcl_train import checkpoint
from lcl_train.ema import Average
from lcl_train.encoder import load_encoder
from lcl_train.loop import train
from lcl_train.run import Run
from tests.lcl_train import tiny

QUIET = Console(quiet=True)


def walk(model, seed, steps, average, start=0):
    """Random steps; returns the weights after each."""
    generator = torch.Generator().manual_seed(seed)
    seen = []
    for step in range(start, start + steps):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        average.update(step + 1)
        seen.append(model.weight.detach().clone())
    return seen


def test_the_average_is_the_weighted_mean_of_all_weights_there_were():
    model = nn.Linear(3, 2)
    average, expected = Average(model, 0.9), model.weight.detach().double()
    for step, weight in enumerate(walk(model, 0, 200, average), 1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.weights["weight"].double(), expected, rtol=1e-5, atol=1e-5)
    assert average.weights.keys() == dict(model.named_parameters()).keys()


def test_the_random_start_is_soon_forgotten():
    model = nn.Linear(3, 2)
    average = Average(model, 0.9999)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for step in range(1, 101):
        average.update(step)
    assert (average.weights["weight"] - 1).abs().max() < 1e-6


def test_loaded_averages_go_on_as_if_nothing_had_happened():
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    average, twin = Average(model, 0.99), Average(other, 0.99)
    walk(model, 1, 5, average)
    other.load_state_dict(model.state_dict())
    twin.load({name: weight.clone() for name, weight in average.weights.items()})
    walk(model, 2, 5, average, start=5)
    walk(other, 2, 5, twin, start=5)
    for name, weight in average.weights.items():
        assert torch.equal(weight, twin.weights[name])


def test_a_missing_average_is_told():
    with pytest.raises(KeyError, match="bias"):
        Average(nn.Linear(3, 2), 0.9).load({"weight": torch.zeros(2, 3)})


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [tiny.document(number) for number in range(32)]
    return tiny.write_shards(tmp_path_factory.mktemp("shards"), documents)


def test_a_stopped_run_keeps_its_averages_exactly(shards, tmp_path):
    settings = tiny.settings(ema=0.9, save_every_steps=4, steps=8, keep_last=2)
    train(shards, tmp_path / "whole", settings, "never", QUIET)
    earlier = tmp_path / "whole/checkpoints/step-00000004"
    train(shards, tmp_path / "later", settings, earlier, QUIET)
    last = "checkpoints/step-00000008/averages.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "later" / last).read_bytes()
    assert (tmp_path / "whole" / last).read_bytes() != (earlier / "averages.safetensors").read_bytes()


def test_evals_take_the_averages_where_there_are_any(shards, tmp_path):
    train(shards, tmp_path, tiny.settings(ema=0.9, steps=3), "never", QUIET)
    path = checkpoint.locate(tmp_path)
    averages, weights = checkpoint.read_averages(path), checkpoint.read_model(path)
    assert averages.keys() == weights.keys()
    for name, weight in load_encoder(tmp_path)[0].state_dict().items():
        assert torch.equal(weight, averages[name]) and not torch.equal(weight, weights[name]), name
    (path / "averages.safetensors").unlink()
    for name, weight in load_encoder(tmp_path)[0].state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_what_evals_take_is_what_is_judged(shards, tmp_path):
    settings = tiny.settings(ema=0.9, steps=4, validate_every_steps=2)
    train(shards, tmp_path, settings, "never", QUIET)
    path = checkpoint.locate(tmp_path)
    run = Run(Shards(shards), tmp_path, settings)
    checkpoint.load_weights(run.model, checkpoint.read_model(path, best=True), path)
    run.average = None
    found = run.validate()
    assert (
        tiny.validations(tmp_path)[-1] == found
        and found["val/total"] == checkpoint.read_state(path).best.value
    )


def test_averages_begin_where_a_run_without_them_stood(shards, tmp_path):
    train(shards, tmp_path, tiny.settings(steps=2), "never", QUIET)
    assert checkpoint.read_averages(checkpoint.locate(tmp_path)) == {}
    run = Run(Shards(shards), tmp_path, tiny.settings(ema=0.9))
    run.resume("auto")
    for name, weight in run.model.named_parameters():
        assert torch.equal(run.average.weights[name], weight)
