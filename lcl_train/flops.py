"""Floating-point operations of a step by arithmetic: matrix products only, 2 per multiply-add.

What is useful is counted apart from what is run. Useful: no padding, nothing computed twice, of a causal
attention the half below the diagonal; backward is twice forward. The shares of a device's peak are called MFU
and HFU (Korthikanti et al., arXiv 2205.05198).
"""

from dataclasses import dataclass

from torch import nn

from lcl_train.model import LCLModel


@dataclass(frozen=True, slots=True)
class Work:
    """What batches hold; works add up.

    Attributes:
        images: pictures.
        tokens: positions of the language model.
        squares: sum of the squared lengths of the segments.
        labels: targets of the next-token loss.
        pairs: contexts of the contrast.
        comparisons: pairs times the pairs that each is compared with.
    """

    images: int = 0
    tokens: int = 0
    squares: int = 0
    labels: int = 0
    pairs: int = 0
    comparisons: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, name) + getattr(other, name) for name in Work.__slots__))


@dataclass(frozen=True, slots=True)
class Costs:
    """Forward operations of a model for one of each kind of work.

    Attributes:
        stem: patch embedding of an image; it has no gradient of its input.
        vision: the other dense layers of the encoder, for an image.
        vision_attention: attention of the encoder, for an image.
        pool: pooling and projection, for an image.
        pool_attention: attention of the pooling, for an image.
        language: dense layers of the language model, for a position.
        language_attention: its attention, for a pair of positions, of which a causal one needs half.
        head: logits of a target.
        context: projection of a context.
        comparison: one logit of the contrast.
    """

    stem: int
    vision: int
    vision_attention: int
    pool: int
    pool_attention: int
    language: int
    language_attention: int
    head: int
    context: int
    comparison: int

    def forward(self, work: Work) -> dict[str, int]:
        """Useful operations of a forward pass, by part."""
        return {
            "vision": work.images * (self.stem + self.vision + self.vision_attention),
            "pool": work.images * (self.pool + self.pool_attention),
            "language": work.tokens * self.language,
            "language attention": self.language_attention * (work.squares + work.tokens) // 2,
            "head": work.labels * self.head,
            "contrast": work.pairs * self.context + work.comparisons * self.comparison,
        }

    def training(self, work: Work) -> int:
        """Useful operations of forward and backward."""
        return 3 * sum(self.forward(work).values()) - work.images * self.stem


def costs_of(model: LCLModel) -> Costs:
    """The costs of a model, of any sizes; one on the meta device will do."""
    vit, (rows, columns) = model.vision.vit, model.vision.grid
    patches, width = rows * columns, model.settings.language.width
    tokens = patches + vit.num_prefix_tokens
    attention = sum(block.attn.num_heads * block.attn.head_dim for block in vit.blocks)
    return Costs(
        stem=_dense(vit.patch_embed) * patches,
        vision=_dense(vit.blocks) * tokens,
        vision_attention=4 * attention * tokens**2,
        pool=(_dense(model.pool.k) + _dense(model.pool.v)) * patches
        + _dense(model.pool.out) * (1 + model.slots),
        pool_attention=4 * width * patches,
        language=_dense(model.language.blocks),
        language_attention=4 * width * len(model.language.blocks),
        head=_dense(model.head),
        context=_dense(model.context_proj),
        comparison=2 * width,
    )


def _dense(module: nn.Module) -> int:
    """Operations of all linear maps and convolutions in a module, for one token."""
    maps = (each for each in module.modules() if isinstance(each, nn.Linear | nn.Conv2d))
    return sum(2 * each.weight.numel() for each in maps)
