"""Latent compression learning, wired as in the paper: images become tokens of a causal language model.

Pixels become a pooled vector and S visual tokens an image; the tokens fill their slots in the text; the
stream at `<BoI>` must foretell the pooled vector, and every stream before text the next token.
"""

from collections.abc import Mapping
from math import isqrt, log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lcl_train.collate import Batch
from lcl_train.language import LanguageModel
from lcl_train.presets import ModelSettings
from lcl_train.vision import AttentivePool, VisionEncoder
from schemas.errors import RecipeError

MAX_LOGIT_SCALE = log(100)


class Outputs(NamedTuple):
    """What an objective needs, for N images of S slots and T positions.

    Attributes:
        latents: [N, width] pooled vectors of all images, not normalised.
        visual: [N, S, width] their tokens, as the language model sees them.
        stream: [T, width] after the last block, not normed.
    """

    latents: Tensor
    visual: Tensor
    stream: Tensor


class LCLModel(nn.Module):
    """Vision encoder, attentive pooling, language model and two heads, trained together from scratch."""

    def __init__(self, settings: ModelSettings, heads: Mapping[str, nn.Module] | None = None) -> None:
        """Fresh weights, drawn from torch's global generator.

        Args:
            settings: all sizes.
            heads: parameters of an objective's own, which train along.

        Raises:
            RecipeError: if the sizes do not fit one another, or timm has no such ViT.
        """
        super().__init__()
        self.settings = settings
        width = settings.language.width
        self.vision = VisionEncoder(settings.vision)
        self.slots = _slots(settings, self.vision.grid)
        self.pool = AttentivePool(self.vision.width, width, settings.language.heads)
        self.language = LanguageModel(settings.language)
        self.context_norm, self.context_proj = nn.LayerNorm(width), nn.Linear(width, width, bias=False)
        nn.init.normal_(self.context_proj.weight, std=width**-0.5)
        self.head_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, settings.language.vocab_size, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor([log(1 / 0.07)]))  # [1]: fully_shard refuses scalars
        self.heads = nn.ModuleDict(heads)

    def forward(self, batch: Batch) -> Outputs:
        """One pass over packed rows; what is made of the stream is left to the objective."""
        pixels = self.vision.normalise(batch.pixels)
        if len(batch.hidden):
            pixels = _hide(pixels, batch.hidden)
        latents, visual = self.encode(pixels)
        index = batch.visual_index
        shown = visual.flatten(0, 1).index_select(0, index.clamp(min=0))
        embeddings = self.language.tokens(batch.tokens)
        embeddings = torch.where(index[:, None] >= 0, shown.to(embeddings.dtype), embeddings)
        return Outputs(latents, visual, self.language(embeddings, batch.positions, batch.segments))

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Images alone: [N, 3, H, W] to pooled vectors [N, width] and visual tokens [N, slots, width]."""
        patches = self.vision(pixels)
        latents, visual = self.pool(patches, self.vision.grid, self.slots)
        return latents, visual

    def foretell(self, stream: Tensor) -> Tensor:
        """What the stream at some `<BoI>` [P, width] foretells of the image: [P, width], not normalised."""
        contexts: Tensor = self.context_proj(self.context_norm(stream))
        return contexts

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks: what is gathered, compiled or recomputed one by one."""
        return [*self.vision.vit.blocks, *self.language.blocks]

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the temperature in [1/100, 1]; call it after every optimiser step (as the reference does)."""
        self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def _hide(pixels: Tensor, hidden: Tensor) -> Tensor:
    """The mean colour where a slot is hidden; slots lie on a square over the image."""
    side = isqrt(hidden.shape[1])
    squares = hidden.view(len(hidden), 1, side, side).float()
    return pixels.masked_fill(functional.interpolate(squares, pixels.shape[2:]) > 0, 0)


def _slots(settings: ModelSettings, grid: tuple[int, int]) -> int:
    """Visual slots of an image in the text."""
    patches, wanted = grid[0] * grid[1], settings.vision.visual_tokens
    if wanted is None or wanted == patches:
        return patches
    if wanted > patches or isqrt(wanted) ** 2 != wanted:
        raise RecipeError(
            f"vision.visual_tokens {wanted}: give a square number below {patches}, the patches of an image"
        )
    return wanted
