"""The causal language model over flat, packed tokens: what predicts images from text, and text from images.

One architecture for every preset and for parity with the reference implementation: pre-norm blocks with
LayerNorm, learned positions that restart in each document, exact GELU. It is thrown away after pre-training.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lcl_train.attend import Attention, Segments, attend
from lcl_train.presets import LanguageSettings


class Block(nn.Module):
    """Attention, then an MLP four times as wide, each after a LayerNorm and added to the stream."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        residual_std = (width * 2 * layers) ** -0.5  # as the reference does: deep streams would grow
        stds = {
            self.qkv: width**-0.5,
            self.proj: residual_std,
            self.fc1: (2 * width) ** -0.5,
            self.fc2: residual_std,
        }
        for linear, std in stds.items():
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """[T, width] to [T, width]."""
        stacked: Tensor = self.qkv(self.norm1(x))
        q, k, v = stacked.view(len(x), 3, self.heads, -1).unbind(1)
        attended: Tensor = self.proj(attend(q, k, v, segments).flatten(1))
        x = x + attended
        expanded: Tensor = self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return x + expanded


class LanguageModel(nn.Module):
    """Token embeddings, positions and blocks; no final norm: each head has its own.

    Attributes:
        attention: which kernels attend, where there is a choice.
        checkpoint_blocks: whether only what enters a block is kept for its gradient.
    """

    def __init__(self, settings: LanguageSettings) -> None:
        super().__init__()
        self.attention: Attention = "auto"
        self.checkpoint_blocks = False
        self.tokens = nn.Embedding(settings.vocab_size, settings.width)
        self.positions = nn.Embedding(settings.context, settings.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.01)
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.heads, settings.layers) for _ in range(settings.layers)
        )

    def forward(self, embeddings: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """Run the blocks.

        Args:
            embeddings: [T, width], token embeddings with visual tokens in their slots.
            positions: int64 [T], from 0 in each document.
            segments: the documents.

        Returns:
            [T, width], the stream after the last block.
        """
        x: Tensor = embeddings + self.positions(positions)
        is_half = torch.is_autocast_enabled(x.device.type) or x.dtype in (torch.float16, torch.bfloat16)
        segments = segments.planned(self.attention, is_half)
        for block in self.blocks:
            if self.checkpoint_blocks and torch.is_grad_enabled():
                x = checkpoint(block, x, segments, use_reentrant=False)
            else:
                x = block(x, segments)
        return x
