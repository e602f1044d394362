import pytest
import torch
from torch import nn

from lcl_train.ema import Average


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
