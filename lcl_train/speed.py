"""What makes a step faster or smaller and changes no result: compiled blocks, recomputed blocks, attention.

Each block is compiled alone: equal blocks share one compilation, so that warming up takes seconds instead of
minutes, and hooks around blocks (FSDP2) stay outside. What lies between blocks is a small share of a step.
"""

from typing import Literal

from pydantic import Field

from lcl_train.attend import Attention
from lcl_train.model import LCLModel
from schemas.errors import RecipeError
from schemas.recipe import Settings


class SpeedSettings(Settings):
    """How a step is run."""

    compile: Literal["auto"] | bool = Field(
        "auto",
        description="compile the blocks of both towers; auto: on CUDA in bfloat16; a CPU takes a minute",
    )
    checkpoint_blocks: bool = Field(
        False, description="keep only what enters a block and compute the rest again: less memory, slower"
    )
    attention: Attention = Field(
        "auto", description="of the language model; flex: FlexAttention, on CUDA only; auto: the fastest"
    )


def hasten(model: LCLModel, settings: SpeedSettings, backend: str = "inductor", is_half: bool = True) -> None:
    """Run a model as the settings say.

    Args:
        model: on the device where it shall run.
        settings: how.
        backend: of `torch.compile`.
        is_half: whether activations are bfloat16.

    Raises:
        RecipeError: FlexAttention is asked for where there is none, or blocks shall be compiled whose
            attention splits a batch into its documents.
    """
    model.language.attention = settings.attention
    model.language.checkpoint_blocks = settings.checkpoint_blocks
    model.vision.vit.set_grad_checkpointing(settings.checkpoint_blocks)
    on_cuda = next(model.parameters()).is_cuda
    if settings.attention == "flex" and not on_cuda:
        raise RecipeError("speed.attention=flex: runs on CUDA only; leave it at auto")
    splits = on_cuda and not is_half and settings.attention != "flex"  # compiled anew for every batch
    if splits and settings.compile is True:
        raise RecipeError("speed.compile in float32 on CUDA: set speed.attention=flex, or compile=false")
    if settings.compile is True or (settings.compile == "auto" and on_cuda and not splits):
        for block in model.blocks:
            block.compile(backend=backend, fullgraph=True)
