"""Weights of the reference implementation (OpenGVLab/LCL) under our names, for parity and to start from.

Only names and shapes change; the released PyTorch files are pickles and have to be converted first.
"""

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lcl_train.model import LCLModel
from lcl_train.presets import LanguageSettings, ModelSettings, VisionSettings
from schemas.errors import CheckpointError

_NAMES = [  # applied in this order: first the place, then what is inside a block
    (r"^visual\.class_embedding$", "vision.vit.cls_token"),
    (r"^visual\.positional_embedding$", "vision.vit.pos_embed"),
    (r"^visual\.conv1\.", "vision.vit.patch_embed.proj."),
    (r"^visual\.ln_pre\.", "vision.vit.norm_pre."),
    (r"^visual\.ln_post\.", "vision.vit.norm."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.attn\.", r"vision.vit.blocks.\1.attn."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.", r"vision.vit.blocks.\1.mlp."),
    (r"^visual\.transformer\.resblocks\.", "vision.vit.blocks."),
    (r"^text\.token_embedding\.", "language.tokens."),
    (r"^text\.positional_embedding$", "language.positions.weight"),
    (r"^text\.transformer\.resblocks\.(\d+)\.(?:attn\.|mlp\.)?", r"language.blocks.\1."),
    (r"^text\.ln_final\.", "context_norm."),
    (r"^text\.text_projection$", "context_proj.weight"),
    (r"^pool_project\.query_token$", "pool.query"),
    (r"^pool_project\.pooler\.norm1_", "pool.norm_"),
    (r"^pool_project\.pooler\.cross_attn\.([qkv])_bias$", r"pool.\1.bias"),
    (r"^pool_project\.pooler\.cross_attn\.proj\.", "pool.out."),
    (r"^pool_project\.pooler\.cross_attn\.", "pool."),
    (r"^lm_head\.0\.", "head_norm."),
    (r"^lm_head\.1\.", "head."),
    (r"\.in_proj_", ".qkv."),
    (r"\.out_proj\.", ".proj."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.c_fc\.", ".fc1."),
    (r"\.c_proj\.", ".fc2."),
]
_CONVERT = (
    "a PyTorch file is converted, on a machine you trust, by safetensors.torch.save_file("
    "torch.load(FILE, 'cpu', weights_only=True)['state_dict'], 'FILE.safetensors')"
)


def read_reference(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint of the reference implementation, under its names.

    Args:
        path: a safetensors file of its state_dict.

    Raises:
        CheckpointError: if it is none; a PyTorch file is not even opened as such, because it is a pickle.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}); {_CONVERT}") from error
    return {name.removeprefix("module."): value for name, value in state.items()}


def settings_of(state: Mapping[str, Tensor], head_width: int = 64, heads: int | None = None) -> ModelSettings:
    """The sizes of a reference model, read off the shapes of its weights.

    Args:
        state: weights under the reference's names.
        head_width: width of an attention head, which no shape tells; 64 in all its configurations.
        heads: of the language model and the pooling; None: as many as have `head_width`.
    """
    conv, width = state["visual.conv1.weight"].shape, state["text.token_embedding.weight"].shape[1]
    patches = len(state["visual.positional_embedding"]) - 1
    return ModelSettings(
        vision=VisionSettings(
            image_size=isqrt(patches) * conv[2],
            patch_size=conv[2],
            width=conv[0],
            layers=_blocks(state, "visual."),
            heads=conv[0] // head_width,
        ),
        language=LanguageSettings(
            width=width,
            layers=_blocks(state, "text."),
            heads=heads or width // head_width,
            context=len(state["text.positional_embedding"]),
            vocab_size=len(state["text.token_embedding.weight"]),
        ),
    )


def _blocks(state: Mapping[str, Tensor], tower: str) -> int:
    return sum(name.startswith(tower) and name.endswith(".ln_1.weight") for name in state)


def convert(state: Mapping[str, Tensor], model: LCLModel) -> dict[str, Tensor]:
    """Weights, or their gradients, from the reference's names and shapes to ours.

    Raises:
        CheckpointError: if a weight is missing, unknown or of another shape.
    """
    ours = {
        _rename(name): value.T if name == "text.text_projection" else value for name, value in state.items()
    }
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if odd := sorted(shapes.keys() ^ ours.keys()):
        raise CheckpointError(f"weights missing or unknown: {', '.join(odd[:8])}; is this an LCL checkpoint?")
    for name, value in ours.items():
        if value.numel() != shapes[name].numel():
            raise CheckpointError(f"{name}: {tuple(value.shape)}, the model has {tuple(shapes[name])}")
    return {name: value.reshape(shapes[name]) for name, value in ours.items()}


def import_reference(state: Mapping[str, Tensor], head_width: int = 64, heads: int | None = None) -> LCLModel:
    """A model with the reference's weights; the arguments are those of `settings_of`.

    Raises:
        CheckpointError: if they are not those of an LCL model.
    """
    try:
        model = LCLModel(settings_of(state, head_width, heads))
    except KeyError as error:
        raise CheckpointError(f"weight {error} is missing; is this an LCL checkpoint?") from error
    model.load_state_dict(convert(state, model), strict=True)
    return model


def _rename(name: str) -> str:
    for pattern, ours in _NAMES:
        name = re.sub(pattern, ours, name)
    return name
