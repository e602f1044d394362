import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lcl_train import checkpoint
from lcl_train.model import LCLModel
from lcl_train.optim import Muon, OptimizerSettings, build_optimizer, learning_rate, set_learning_rate
from tests.lcl_train import tiny

SIZES = tiny.settings().model_settings(70)
MUON = OptimizerSettings(name="muon", lr=0.01, weight_decay=0.1)
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


@given(
    st.sampled_from(["wsd", "cosine"]),
    st.integers(1, 300),
    st.integers(0, 300),
    st.floats(0, 1),
)
def test_every_rate_lies_between_nothing_and_the_peak_and_only_falls_after_the_warm_up(
    schedule, steps, warmup_steps, decay_share
):
    settings = OptimizerSettings(
        lr=0.5,
        warmup_steps=warmup_steps,
        schedule=schedule,
        decay_share=decay_share if schedule == "wsd" else 0.2,
    )
    rates = [learning_rate(step, steps, settings) for step in range(steps)]
    warmup = min(warmup_steps, steps // 10)
    assert all(0 < rate <= 0.5 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def network(seed=0):
    torch.manual_seed(seed)
    model = LCLModel(SIZES)
    return model, build_optimizer(model, MUON)


def step(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else():
    model, optimizer = network()
    matrices = set(map(id, optimizer.param_groups[0]["params"]))
    taken = {name for name, p in model.named_parameters() if id(p) in matrices}
    of_a_block = {"qkv", "proj", "fc1", "fc2"}
    vision, language = "vision.vit.blocks.0.", "language.blocks.0."
    assert taken == {f"{language}{name}.weight" for name in of_a_block} | {
        f"{vision}{path}.weight" for path in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    everything = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everything) == sorted(map(id, model.parameters()))


def test_muon_is_torchs_muon_beside_adamw():
    model, optimizer = network()
    twin = copy.deepcopy(model)
    named = dict(twin.named_parameters())
    blocks = [p for name, p in named.items() if ".blocks." in name and p.ndim == 2]
    rest = [p for name, p in named.items() if not (".blocks." in name and p.ndim == 2)]
    muon = torch.optim.Muon(blocks, lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), eps=1e-6)
    for seed in range(3):
        step(model, optimizer, seed)
        for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
            other.grad = parameter.grad.clone()
        muon.step()
        adamw.step()
    for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6, msg=name)


def test_an_update_of_muon_is_as_large_as_one_of_adamw():
    """RMS about 0.2 of the rate, which is AdamW's (arXiv 2502.16982, section 2.2), whatever the shape."""
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.zeros(shape)) for shape in ((64, 64), (256, 64), (64, 256))]
    optimizer = Muon(matrices, [nn.Parameter(torch.zeros(1))], MUON)
    set_learning_rate(optimizer, 1.0)
    for matrix in matrices:
        matrix.grad = torch.randn(matrix.shape)
    optimizer.step()
    for matrix in matrices:
        assert 0.1 < matrix.square().mean().sqrt() < 0.25


def test_muon_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path):
    model, optimizer = network()
    step(model, optimizer, seed=1)
    settings = {"optimizer": {"name": "muon"}}
    state = checkpoint.State(step=1, settings=settings, model=SIZES, specials={}, loader={}, versions={})
    path = checkpoint.save(tmp_path, state, model, optimizer, keep_last=1)
    other, other_optimizer = network(seed=9)
    checkpoint.restore(path, other, other_optimizer, SIZES)
    step(model, optimizer, seed=2)
    step(other, other_optimizer, seed=2)
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_muon_has_no_use_for_a_closure():
    with pytest.raises(ValueError, match="no closure"):
        network()[1].step(lambda: 0.0)
