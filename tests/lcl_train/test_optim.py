import pytest
import torch
from torch import nn

from lcl_train.optim import OptimizerSettings, build_optimizer, learning_rate

WSD = OptimizerSettings(lr=1.0, warmup_steps=10, decay_share=0.2)


def test_wsd_warms_up_holds_and_cools_down():
    rates = [learning_rate(step, 100, WSD) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert set(rates[10:80]) == {1.0}
    assert rates[80:] == pytest.approx([1 - k / 20 for k in range(20)])


def test_cosine_falls_from_the_peak_to_nothing():
    cosine = OptimizerSettings(lr=1.0, warmup_steps=10, schedule="cosine")
    rates = [learning_rate(step, 110, cosine) for step in range(10, 111)]
    assert rates[0] == 1.0
    assert rates[50] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)


def test_warm_up_takes_a_tenth_of_a_short_run():
    assert learning_rate(2, 20, OptimizerSettings(lr=1.0, warmup_steps=2000)) == 1.0


def test_a_schedule_without_decay_ends_level():
    assert learning_rate(99, 100, OptimizerSettings(lr=1.0, warmup_steps=0, decay_share=0)) == 1.0


def test_only_matrices_are_decayed():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    model.register_parameter("temperature", nn.Parameter(torch.tensor(1.0)))
    decayed, others = build_optimizer(model, OptimizerSettings()).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 4)]
    assert decayed["weight_decay"] == 0.2
    assert len(others["params"]) == 4
    assert others["weight_decay"] == 0.0
