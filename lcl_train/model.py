"""Latent compression learning, wired as in the paper: images become tokens of a causal language model.

Pixels become a pooled vector and S visual tokens an image; the tokens fill their slots in the text; the
stream at `<BoI>` must foretell the pooled vector, and every stream before text the next token.
"""

from dataclasses import dataclass
from math import isqrt, log

import torch
from torch import Tensor, nn

from lcl_train.collate import Batch
from lcl_train.language import LanguageModel
from lcl_train.presets import ModelSettings
from lcl_train.vision import AttentivePool, VisionEncoder
from schemas.errors import RecipeError

MAX_LOGIT_SCALE = log(100)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What an objective needs, for N images, P pairs and L targets.

    Attributes:
        latents: [N, width] pooled vectors of all images, not normalised.
        contexts: [P, width] what the context of each pair foretells, not normalised.
        hidden: [L, width] normed stream before each target; times `head` it gives the logits.
        head: [vocab_size, width] weight of the language-model head.
        logit_scale: scalar, log of the inverse temperature of the contrast.
    """

    latents: Tensor
    contexts: Tensor
    hidden: Tensor
    head: Tensor
    logit_scale: Tensor


class LCLModel(nn.Module):
    """Vision encoder, attentive pooling, language model and two heads, trained together from scratch."""

    def __init__(self, settings: ModelSettings) -> None:
        """Fresh weights, drawn from torch's global generator.

        Raises:
            RecipeError: if the sizes do not fit one another, or timm has no such ViT.
        """
        super().__init__()
        self.settings = settings
        width, heads = settings.language.width, settings.language.heads
        self.vision = VisionEncoder(settings.vision)
        self.slots = _slots(settings, self.vision.grid)
        self.pool = AttentivePool(self.vision.width, width, heads)
        self.language = LanguageModel(settings.language)
        self.context_norm, self.context_proj = nn.LayerNorm(width), nn.Linear(width, width, bias=False)
        nn.init.normal_(self.context_proj.weight, std=width**-0.5)
        self.head_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, settings.language.vocab_size, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(log(1 / 0.07)))

    def forward(self, batch: Batch) -> Outputs:
        """One pass over packed rows; the language-model head itself is left to the objective."""
        latents, visual = self.encode(batch.pixels)
        embeddings = self.language.tokens(batch.tokens)
        embeddings = embeddings.index_copy(0, batch.slot_index, visual.flatten(0, 1).to(embeddings.dtype))
        stream = self.language(embeddings, batch.positions, batch.segments)
        contexts = self.context_proj(self.context_norm(stream.index_select(0, batch.pair_position)))
        hidden = self.head_norm(stream.index_select(0, batch.label_position))
        return Outputs(latents, contexts, hidden, self.head.weight, self.logit_scale)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Images alone: [N, 3, H, W] to pooled vectors [N, width] and visual tokens [N, slots, width]."""
        patches = self.vision(pixels)
        latents, visual = self.pool(patches, self.vision.grid, self.slots)
        return latents, visual

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the temperature in [1/100, 1]; call it after every optimiser step (as the reference does)."""
        self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


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
