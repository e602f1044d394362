"""The reference implementation's weights, losses and gradients, and files that must not be trusted."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lcl_train.model import LCLModel
from lcl_train.parity import main
from lcl_train.reference import convert, import_reference, read_reference, settings_of
from schemas.errors import CheckpointError

torch.set_num_threads(2)
FIXTURE = Path(__file__).parents[3] / "shared" / "parity" / "parity_a.npz"


@pytest.mark.skipif(
    not FIXTURE.exists(), reason="the stored outputs of the reference lie outside the repository"
)
def test_parity_with_the_reference(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["parity", str(FIXTURE), "--json"])
    assert main() == 0
    report = json.loads(capsys.readouterr().out)
    stored = np.load(FIXTURE)
    assert set(report) == {"contrastive", "generation", "total", "max_rel_err_loss", "max_rel_err_grad"}
    for name in ("contrastive", "generation", "total"):
        assert report[name] == pytest.approx(float(stored[f"output/{name}"]), rel=1e-5)
    assert report["max_rel_err_loss"] < 1e-5 and report["max_rel_err_grad"] < 1e-4


def reference_state(vision=128, width=64, layers=2):
    """Random weights under the reference's names, as its release holds them."""
    blocks = {
        "ln_1.weight": (1,), "ln_1.bias": (1,), "ln_2.weight": (1,), "ln_2.bias": (1,),
        "attn.in_proj_weight": (3, 1), "attn.in_proj_bias": (3,), "attn.out_proj.weight": (1, 1),
        "attn.out_proj.bias": (1,), "mlp.c_fc.weight": (4, 1), "mlp.c_fc.bias": (4,),
        "mlp.c_proj.weight": (1, 4), "mlp.c_proj.bias": (1,),
    }  # fmt: skip
    shapes = {
        "logit_scale": (), "visual.class_embedding": (vision,), "visual.positional_embedding": (5, vision),
        "visual.conv1.weight": (vision, 3, 8, 8), "text.positional_embedding": (32, width),
        "text.text_projection": (width, width), "text.token_embedding.weight": (40, width),
        "pool_project.query_token": (1, 1, vision), "lm_head.1.weight": (40, width),
        "pool_project.pooler.cross_attn.proj.weight": (width, width),
    }  # fmt: skip
    norms = {"visual.ln_pre": vision, "visual.ln_post": vision, "text.ln_final": width, "lm_head.0": width}
    for letter in "qkv":
        norms[f"pool_project.pooler.norm1_{letter}"] = vision
        shapes[f"pool_project.pooler.cross_attn.{letter}.weight"] = (width, vision)
        shapes[f"pool_project.pooler.cross_attn.{letter}_bias"] = (width,)
    for name, size in norms.items():
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    for tower, size in (("visual", vision), ("text", width)):
        for layer in range(layers):
            prefix = f"{tower}.transformer.resblocks.{layer}."
            shapes |= {
                prefix + name: tuple(size * factor for factor in shape) for name, shape in blocks.items()
            }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_released_checkpoint_is_imported(tmp_path, prefix):
    state, path = reference_state(), tmp_path / "released.safetensors"
    save_file({f"{prefix}{name}": value for name, value in state.items()}, path)
    model = import_reference(read_reference(path))
    assert model.settings.vision.image_size == 16 and model.settings.language.vocab_size == 40
    assert model.settings.vision.heads == 2 and model.settings.language.heads == 1
    assert torch.equal(model.context_proj.weight, state["text.text_projection"].T)
    assert torch.equal(model.vision.vit.cls_token[0, 0], state["visual.class_embedding"])
    assert torch.equal(model.pool.k.bias, state["pool_project.pooler.cross_attn.k_bias"])


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize("name", ["harm.pt", "harm.safetensors"])
def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harm()}, tmp_path / name)
    with pytest.raises(CheckpointError, match="a PyTorch file is converted, on a machine you trust, by"):
        read_reference(tmp_path / name)
    assert not (tmp_path / "harm").exists()


def test_the_remedy_for_a_pytorch_file_works(tmp_path):
    state = reference_state()
    torch.save(
        {"epoch": 32, "state_dict": {f"module.{name}": value for name, value in state.items()}},
        tmp_path / "a.pt",
    )
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read_reference(tmp_path / "a.pt")
    save_file(
        torch.load(tmp_path / "a.pt", "cpu", weights_only=True)["state_dict"], tmp_path / "a.safetensors"
    )
    assert read_reference(tmp_path / "a.safetensors").keys() == state.keys()


def test_other_weights_are_refused():
    state = reference_state()
    model = LCLModel(settings_of(state))
    with pytest.raises(CheckpointError, match=r"head_norm\.weight"):
        convert({name: value for name, value in state.items() if name != "lm_head.0.weight"}, model)
    with pytest.raises(CheckpointError, match=r"head_norm\.weight: \(3,\), the model has \(64,\)"):
        convert({**state, "lm_head.0.weight": torch.ones(3)}, model)
    with pytest.raises(CheckpointError, match="is missing"):
        import_reference({"visual.conv1.weight": torch.ones(1, 3, 8, 8)})
