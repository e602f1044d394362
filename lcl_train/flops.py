"""Floating-point operations of a step by arithmetic: matrix products only, 2 per multiply-add.

Useful ones are told apart from those that are run. Useful: no padding, nothing computed twice, of a causal
attention the half below the diagonal; backward is twice forward. Their shares of a device's peak are called
MFU and HFU (Korthikanti et al., arXiv 2205.05198).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from lcl_train.collate import Batch
from lcl_train.model import LCLModel


@dataclass(frozen=True, slots=True)
class Work:
    """What batches hold; works add up.

    Attributes:
        images: pictures.
        tokens: positions of the language model.
        seen: pairs of positions of which one sees the other, or itself.
        labels: tokens to tell.
        pairs: contexts of the contrast.
        compared: pairs times all that each is compared with.
    """

    images: int = 0
    tokens: int = 0
    seen: int = 0
    labels: int = 0
    pairs: int = 0
    compared: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, name) + getattr(other, name) for name in Work.__slots__))


def useful(batch: Batch, ranks: int = 1) -> Work:
    """The work of a batch on the host, without what only fills its shape.

    Args:
        batch: of one rank.
        ranks: whose pairs are compared with one another; all are taken to have as many.
    """
    pairs = len(batch.pair_image)
    owned = (length for length, owner in zip(batch.segments.lengths, batch.documents, strict=False) if owner)
    return Work(
        images=batch.n_images,
        tokens=batch.n_tokens,
        seen=_seen(owned, batch.segments.causal),
        labels=len(batch.labels),
        pairs=pairs,
        compared=pairs * pairs * ranks,
    )


def filled(batch: Batch, ranks: int = 1) -> Work:
    """The work that a batch makes, with all that fills its shape."""
    pairs = len(batch.pair_image)
    return Work(
        images=len(batch.pixels),
        tokens=len(batch.tokens),
        seen=_seen(batch.segments.lengths, batch.segments.causal),
        labels=len(batch.labels),
        pairs=pairs,
        compared=pairs * pairs * ranks,
    )


def _seen(lengths: Iterable[int], causal: bool) -> int:
    return sum(length * (length + 1) // 2 if causal else length**2 for length in lengths)


@dataclass(frozen=True, slots=True)
class Costs:
    """Forward operations of a model for one of each kind of work.

    Attributes:
        stem: patch embedding of an image; nobody asks for the gradient of its input.
        vision: the other dense layers of the encoder, for an image.
        vision_attention: attention of the encoder, for an image.
        pool: pooling and projection, for an image.
        language: dense layers of the language model, for a position.
        language_attention: its attention, for a pair of positions.
        heads: of the objective, for a position (BLIP-2 judges only the ends of texts: one number each).
        head: logits of a token.
        context: projection of a context.
        comparison: the logits of a pair and another, both ways.
    """

    stem: int
    vision: int
    vision_attention: int
    pool: int
    language: int
    language_attention: int
    heads: int
    head: int
    context: int
    comparison: int

    def forward(self, work: Work) -> dict[str, int]:
        """Operations of a forward pass, by part."""
        return {
            "vision": work.images * (self.stem + self.vision + self.vision_attention),
            "pool": work.images * self.pool,
            "language": work.tokens * self.language + work.seen * self.language_attention,
            "heads": work.tokens * self.heads + work.labels * self.head,
            "contrast": work.pairs * self.context + work.compared * self.comparison,
        }

    def training(self, work: Work) -> int:
        """Operations of forward and backward."""
        return 3 * sum(self.forward(work).values()) - work.images * self.stem

    def repeated(self, work: Work, blocks: bool) -> int:
        """Operations that a backward pass does once more than needed.

        Args:
            work: as it is run.
            blocks: whether the activations of the blocks are made again (gradient checkpointing).
        """
        scores = (work.images * self.vision_attention + work.seen * self.language_attention) // 2
        again = work.images * (self.vision + self.vision_attention)
        again += work.tokens * self.language + work.seen * self.language_attention
        return scores + blocks * again


@dataclass(frozen=True, slots=True)
class Meter:
    """How well a device is used.

    Attributes:
        costs: of the model.
        peak: operations a second of the device at best; None: unknown.
        blocks_again: whether the blocks' activations are made again in the backward pass.
        all_again: whether a step takes two forward passes, as micro-batches do.
        ranks: processes that train together.
    """

    costs: Costs
    peak: float | None = None
    blocks_again: bool = False
    all_again: bool = False
    ranks: int = 1

    def count(self, batch: Batch) -> tuple[int, int]:
        """Operations of a step on a batch of this rank: the useful ones, and all that are run."""
        work = filled(batch, self.ranks)
        again = self.costs.repeated(work, self.blocks_again)
        again += self.all_again * sum(self.costs.forward(work).values())
        return self.costs.training(useful(batch, self.ranks)), self.costs.training(work) + again

    def rates(self, needed: int, run: int, seconds: float) -> dict[str, float | None]:
        """Useful operations a second (`flops_per_s`), and both as shares of the peak: `mfu`, `hfu`."""
        share = None if self.peak is None else 1 / (seconds * self.peak)
        return {
            "flops_per_s": needed / seconds,
            "mfu": None if share is None else needed * share,
            "hfu": None if share is None else run * share,
        }


def costs_of(model: LCLModel) -> Costs:
    """The costs of a model, of any sizes; one on the meta device will do."""
    vit, (rows, columns) = model.vision.vit, model.vision.grid
    patches, width = rows * columns, model.settings.language.width
    tokens = patches + vit.num_prefix_tokens
    attention = sum(block.attn.num_heads * block.attn.head_dim for block in vit.blocks)
    projected = (_dense(model.pool.k) + _dense(model.pool.v)) * patches
    return Costs(
        stem=_dense(vit.patch_embed) * patches,
        vision=_dense(vit.blocks) * tokens,
        vision_attention=4 * attention * tokens**2,
        pool=projected + _dense(model.pool.out) * (1 + model.slots) + 4 * width * patches,
        language=_dense(model.language.blocks),
        language_attention=4 * width * len(model.language.blocks),
        heads=_dense(model.heads),
        head=_dense(model.head),
        context=_dense(model.context_proj),
        comparison=4 * width,
    )


def _dense(module: nn.Module) -> int:
    """Operations of all linear maps and convolutions in a module, for one token."""
    maps = (each for each in module.modules() if isinstance(each, nn.Linear | nn.Conv2d))
    return sum(2 * each.weight.numel() for each in maps)
