"""A recipe: the whole road as data. Sections are checked against the classes they name by
`pipelines.recipes`.

Settings live with the code that reads them; this room only says which sections there are, so that it needs
to know nobody. A section that is absent is a stage that does not run.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Section = dict[str, Any]
PRESET = "preset"  # a list entry that stands for the list of a published pipeline


def check_member(entry: Any) -> Any:
    """A list entry that names a member, as it came.

    Raises:
        ValueError: it is neither `name` nor `{name: {setting: value}}`.
    """
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, dict):
        raise ValueError(f"write a name, or name: {{setting: value}} (found {entry!r})")
    if len(entry) != 1:
        raise ValueError(f"one name per list entry, found {', '.join(map(str, entry)) or 'none'}")
    ((name, settings),) = entry.items()
    shorthand = name == PRESET and isinstance(settings, str)
    if not (isinstance(name, str) and (shorthand or isinstance(settings, dict | None))):
        raise ValueError(f"write {name}: {{setting: value}}, with settings by name (found {settings!r})")
    return entry


# `same_url`, or `text_length: {min_words: 10}`, or `preset: obelics`
Member = Annotated[str | dict[str, Section | str | None], BeforeValidator(check_member)]


class Settings(BaseModel):
    """What every step is: its own settings, frozen, with a misspelt name and what is no number refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TokenizerSection(Settings):
    """A byte-level BPE learnt from the documents, for `shard`."""

    vocab_size: int = Field(32768, gt=256, description="entries learnt; the special tokens come on top")


class EvalSection(Settings):
    """What the trained encoder is tried on."""

    data: str = Field(description="folder of classes: train/<class>/*.jpg and val/<class>/*.jpg")
    use: list[Member] = Field(["knn", "linear_probe"], description="evals and their settings")


class Recipe(Settings):
    """The sections of a recipe file, in the order in which their stages run."""

    name: str = Field(description="name of the corpus or experiment; part of no digest")
    work: str = Field("", description="folder of all stages; runs/<name> if empty")
    seed: int = Field(0, description="of the trainer; the data stages draw nothing by lot")
    ingest: Section | None = Field(None, description="format, src and the source's own settings")
    download: Section | None = Field(None, description="settings of `lcl download`")
    filters: list[Member] | None = Field(
        None, description="filters and presets, in the order in which they cut"
    )
    scores: list[str] = Field([], description="tables of model scores, or folders of them, for filters")
    dedupe: list[Member] | None = Field(None, description="rules and presets, in the order in which they cut")
    tokenizer: TokenizerSection | None = Field(None, description="learn one; else shard.tokenizer names it")
    shard: Section | None = Field(None, description="tokenizer and containers of the training shards")
    train: Section | None = Field(None, description="preset and settings of the trainer")
    eval: EvalSection | None = Field(None, description="evals of the trained encoder")
