"""The vision encoder that LCL trains, and the attentive pooling that joins it to the language model.

The encoder is timm's own module, so that what comes out of training loads wherever timm does.
"""

from collections.abc import Callable
from math import isqrt
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from lcl_train.presets import VisionSettings
from schemas.errors import RecipeError

Timm = Callable[..., Any]

# OpenAI's statistics of a channel in [0, 1], which the reference implementation uses too.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class VisionEncoder(nn.Module):
    """A timm vision transformer without a head: pixels to normalised patch tokens."""

    def __init__(self, settings: VisionSettings) -> None:
        """Build the network with fresh weights.

        Raises:
            RecipeError: if timm knows no such model, or it is no plain ViT.
        """
        super().__init__()
        sizes = {
            "patch_size": settings.patch_size,
            "embed_dim": settings.width,
            "depth": settings.layers,
            "num_heads": settings.heads,
        }
        self.vit = _create(settings, {name: size for name, size in sizes.items() if size is not None})
        self.width = int(self.vit.num_features)
        self.mean: Tensor
        self.std: Tensor
        self.grid: tuple[int, int] = tuple(self.vit.patch_embed.grid_size)
        for name, values in (("mean", MEAN), ("std", STD)):
            scaled = 255 * torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, scaled, persistent=False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 to float around 0 on their device, a quarter of the bytes on the way; floats stay.

        Pictures come with channels last in memory; the patch embedding is faster with channels first.
        """
        return pixels if pixels.is_floating_point() else (pixels.contiguous() - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        """Normed patch tokens, without class and register tokens: [N, 3, H, W] to [N, P, width]."""
        tokens: Tensor = self.vit.forward_features(self.normalise(pixels))
        return tokens[:, self.vit.num_prefix_tokens :]


def _create(settings: VisionSettings, sizes: dict[str, int]) -> Any:
    create: Timm = timm.create_model
    try:
        vit = create(
            settings.name,
            pretrained=False,
            num_classes=0,
            global_pool="",
            img_size=settings.image_size,
            **sizes,
        )
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise RecipeError(
            f"vision.name {settings.name!r}: {error}; take a plain ViT of timm.list_models('vit_*')"
        ) from error
    attentions = [getattr(block, "attn", None) for block in getattr(vit, "blocks", [None])]
    is_plain = all(hasattr(vit, name) for name in ("num_prefix_tokens", "patch_embed"))
    if not is_plain or not all(hasattr(each, "head_dim") for each in attentions):
        raise RecipeError(
            f"vision.name {settings.name!r} is no plain ViT; take one of timm.list_models('vit_*')"
        )
    if not all(vit.patch_embed.grid_size):
        raise RecipeError(
            f"vision.patch_size: larger than the image of {settings.image_size} pixels; change either"
        )
    return vit


class AttentivePool(nn.Module):
    """One set of weights, two uses: a pooled vector per image, and its tokens for the language model.

    Pooled: g = W_o (softmax(q K^T / sqrt(width of a head)) U), with q from a learned query, K from the keys,
    U = W_v LN_v(V) + b_v. Tokens: E = W_o U. There is no residual and no MLP (the paper's released code).
    """

    def __init__(self, vision_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(1, 1, vision_width))
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(vision_width) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(vision_width, width) for _ in range(3))
        self.out = nn.Linear(width, width, bias=False)
        for linear in (self.q, self.k, self.v):
            nn.init.zeros_(linear.bias)

    def forward(self, patches: Tensor, grid: tuple[int, int], visual_tokens: int) -> tuple[Tensor, Tensor]:
        """Pool and project.

        Args:
            patches: [N, P, vision_width].
            grid: rows and columns of the patches, whose product is P.
            visual_tokens: S, the tokens to keep of an image, a square number or P.

        Returns:
            Pooled vectors [N, width], not normalised, and visual tokens [N, S, width].
        """
        values = self.v(self.norm_v(patches))
        query = self.q(self.norm_q(self.query)).expand(len(patches), -1, -1)
        q, k, v = (self._split(x) for x in (query, self.k(self.norm_k(patches)), values))
        pooled = functional.scaled_dot_product_attention(q, k, v).flatten(1)
        return self.out(pooled), self.out(_shrink(values, grid, visual_tokens))

    def _split(self, x: Tensor) -> Tensor:
        """[N, n, width] to [N, heads, n, width of a head]."""
        images, tokens, width = x.shape
        return x.view(images, tokens, self.heads, width // self.heads).transpose(1, 2)


def _shrink(values: Tensor, grid: tuple[int, int], visual_tokens: int) -> Tensor:
    """Average neighbouring patches until `visual_tokens` are left; W_o is linear, so it may follow."""
    if visual_tokens == grid[0] * grid[1]:
        return values
    side = isqrt(visual_tokens)
    image = values.transpose(1, 2).reshape(len(values), values.shape[-1], *grid)
    return functional.adaptive_avg_pool2d(image, (side, side)).flatten(2).transpose(1, 2)
