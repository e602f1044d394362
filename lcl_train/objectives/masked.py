"""Masked data modelling, as BEiT-3 trains (Wang et al. 2022): hidden words and pieces of images are told.

Simplified: one dense transformer above the encoder instead of experts per modality; a hidden piece is a
square of a slot, drawn alone and not in blocks, and of the mean colour for the encoder instead of a learned
mask; what is told of it are its normalised pixels by squared error (MAE, He et al. 2022, section 3),
because BEiT-3's target is the code of a tokenizer that was trained on other data before. Attention is not
causal.
"""

from math import isqrt
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcl_train.collate import Batch
from lcl_train.layout import Layout
from lcl_train.model import LCLModel, Outputs
from lcl_train.objectives import Generative, Mean, Objective, Terms
from lcl_train.presets import ModelSettings
from lcl_train.vision import VisionEncoder
from schemas.errors import RecipeError


class Masked(Generative, Objective):
    """Weighted sum of the cross-entropy of hidden words and the squared error of hidden squares.

    Shares are BEiT-3's (section 2.2) for texts with images, 0.5, and for images, 0.4. Equal weights are ours.
    """

    text_mask: float = Field(0.5, ge=0, lt=1, description="share of the tokens of text that are hidden")
    image_mask: float = Field(0.4, ge=0, lt=1, description="share of the slots of an image that are hidden")
    pixels_weight: float = Field(1.0, ge=0, description="weight of the squared error of hidden squares")

    @model_validator(mode="after")
    def _hides_something(self) -> Self:
        if not (self.text_mask or self.image_mask):
            raise ValueError("text_mask and image_mask are 0, so that nothing is told; raise one of them")
        return self

    @property
    def layout(self) -> Layout:
        """Interleaved documents with holes."""
        return Layout(text_mask=self.text_mask, image_mask=self.image_mask)

    @property
    def weights(self) -> dict[str, float]:
        """Both 1."""
        return {"generation": self.generation_weight, "pixels": self.pixels_weight}

    def heads(self, sizes: ModelSettings) -> dict[str, nn.Module]:
        """The painter: the stream at a slot to the pixels of its square.

        Raises:
            RecipeError: the squares of the slots do not fill the image.
        """
        if not self.pixels_weight:
            return {}
        width = sizes.language.width
        return {"paint": nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * _square(sizes) ** 2))}

    def terms(self, model: LCLModel, outputs: Outputs, batch: Batch) -> Terms:
        """Hidden words at their places, hidden squares at their slots."""
        means = self.told(model, outputs, batch)
        if self.pixels_weight:
            means["pixels"] = _painted(model, outputs, batch)
        return Terms(means)


def _painted(model: LCLModel, outputs: Outputs, batch: Batch) -> Mean:
    """Squared error of every hidden square, mean over its numbers; all slots are computed: shapes stay."""
    squares = _squares(model.vision.normalise(batch.pixels).float(), model.slots)
    painted: Tensor = model.heads["paint"](outputs.stream).float()
    index = batch.visual_index.clamp(min=0)
    hidden = batch.hidden.flatten()
    is_hidden = (batch.visual_index >= 0) & (hidden[index] if len(hidden) else False)
    errors = (painted - squares[index]).square().mean(-1) * is_hidden
    return Mean(errors.sum(), is_hidden.sum())


def _squares(pixels: Tensor, slots: int) -> Tensor:
    """[N, 3, H, W] to [N * slots, 3 * side * side], each square of mean 0 and deviation 1."""
    count, side = isqrt(slots), pixels.shape[-1] // isqrt(slots)
    pieces = pixels.reshape(len(pixels), 3, count, side, count, side).permute(0, 2, 4, 1, 3, 5)
    squares = pieces.reshape(len(pixels) * slots, 3 * side * side)
    centred = squares - squares.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def _square(sizes: ModelSettings) -> int:
    """Pixels on a side of a slot."""
    with torch.device("meta"):
        grid = VisionEncoder(sizes.vision).grid
    slots = sizes.vision.visual_tokens or grid[0] * grid[1]
    side, rest = divmod(sizes.vision.image_size, isqrt(slots))
    if rest:
        raise RecipeError(
            f"masked: {isqrt(slots)} slots on a side do not divide {sizes.vision.image_size} pixels; "
            "change model.vision.visual_tokens or image_size"
        )
    return side
