"""Model sizes, and the named ones: nano steps in milliseconds on a CPU, base is the paper's ViT-B/16."""

from typing import Self

from pydantic import Field, model_validator

from schemas.recipe import Settings


class VisionSettings(Settings):
    """Any timm vision transformer, by its timm name; what is None stays as timm has it."""

    name: str = Field("vit_base_patch16_clip_224", description="timm model name (of a plain ViT)")
    image_size: int = Field(224, gt=0, description="side of the square input in pixels")
    patch_size: int | None = Field(None, gt=0, description="side of a patch in pixels")
    width: int | None = Field(None, gt=0, description="width of the tokens")
    layers: int | None = Field(None, gt=0, description="number of blocks")
    heads: int | None = Field(None, gt=0, description="attention heads of a block")
    visual_tokens: int | None = Field(
        None,
        gt=0,
        description="tokens of an image in the language model, a square number; None: one per patch",
    )


class LanguageSettings(Settings):
    """The causal transformer, which is thrown away after pre-training."""

    width: int = Field(768, gt=0, description="width of the tokens; image vectors have it too")
    layers: int = Field(12, gt=0, description="number of blocks")
    heads: int = Field(12, gt=0, description="attention heads of a block, and of the attentive pooling")
    context: int = Field(2048, gt=0, description="number of positions, at least those of a document in a row")
    vocab_size: int = Field(49_412, gt=0, description="number of token ids, special ones included")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width}: not a multiple of the {self.heads} heads; change either")
        return self


class ModelSettings(Settings):
    """All that decides the shapes of a model."""

    vision: VisionSettings = Field(VisionSettings(), description="the encoder, which is kept")
    language: LanguageSettings = Field(LanguageSettings(), description="the model above it, thrown away")

    def with_vocabulary(self, vocab_size: int) -> "ModelSettings":
        """The same model for the vocabulary of a set of shards."""
        language = self.language.model_copy(update={"vocab_size": vocab_size})
        return self.model_copy(update={"language": language})


PRESETS: dict[str, ModelSettings] = {
    "nano": ModelSettings(
        vision=VisionSettings(image_size=32, patch_size=8, width=96, layers=3, heads=3),
        language=LanguageSettings(width=96, layers=2, heads=3, context=1024),
    ),
    "tiny": ModelSettings(
        vision=VisionSettings(image_size=64, patch_size=8, width=192, layers=6, heads=3),
        language=LanguageSettings(width=192, layers=4, heads=3),
    ),
    "small": ModelSettings(
        vision=VisionSettings(image_size=224, width=384, heads=6, visual_tokens=64),
        language=LanguageSettings(width=384, layers=6, heads=6),
    ),
    "base": ModelSettings(),
    "base32": ModelSettings(
        vision=VisionSettings(name="vit_base_patch32_clip_224"),
        language=LanguageSettings(width=512, heads=8),
    ),
    # The encoder of the paper's main comparison; its language model was not released, this one is ours.
    "large": ModelSettings(
        vision=VisionSettings(name="vit_large_patch14_clip_224", visual_tokens=64),
        language=LanguageSettings(width=1024, heads=16),
    ),
}
