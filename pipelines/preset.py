"""Presets: the filters and rules of a published pipeline as data, each number with its source beside it.

An entry `preset: obelics` of `filters` or `dedupe` stands for that list in `presets/obelics.yaml`; an entry
after it that names a member of the list lays its settings over it, any other is added.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from schemas.errors import RecipeError
from schemas.members import find
from schemas.overrides import laid_over, settle
from schemas.recipe import PRESET, Member, Settings, check_member

FOLDER = Path(__file__).parent / "presets"


class Preset(Settings):
    """One published pipeline, as far as it needs no model."""

    title: str = Field(min_length=1, description="what it is")
    source: str = Field(min_length=1, description="paper or code whose numbers these are")
    filters: list[Member] = Field(default_factory=list, description="in the order in which they cut")
    dedupe: list[Member] = Field(default_factory=list, description="in the order in which they cut")
    left_out: list[str] = Field(min_length=1, description="steps of the pipeline that are not here, and why")


class Choice(Settings):
    """An entry `preset: NAME`, or `preset: {name: NAME, without: [MEMBER]}`."""

    name: str = Field(description="of the preset")
    without: list[str] = Field(default_factory=list, description="members of it to leave out")


def preset_names() -> list[str]:
    """The presets there are, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        RecipeError: there is none; the nearest are named.
    """
    known = preset_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or known
        raise RecipeError(f"preset {name}: no such preset; did you mean {', '.join(near)}?")
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return settle(Preset, content, f"preset {name}")


def expand(package: str, entries: Sequence[Any]) -> list[Any]:
    """Recipe entries with every preset replaced by its members.

    Args:
        package: folder of the members; its last part is the list of a preset that is meant.
        entries: members and presets, as they stand in a recipe.

    Raises:
        RecipeError: no such preset, one without a list for this stage, or a change that fits two entries.
    """
    made: list[Any] = []
    given: set[int] = set()  # places in `made` that presets filled
    for entry in entries:
        if isinstance(entry, dict) and PRESET in entry:
            listed = _listed(package, entry)
            given.update(range(len(made), len(made) + len(listed)))
            made.extend(listed)
        else:
            _lay(package, made, given, entry)
    return made


def _listed(package: str, entry: dict[str, Any]) -> list[Any]:
    """The members that a preset entry stands for."""
    try:
        said = check_member(entry)[PRESET]
    except ValueError as error:
        raise RecipeError(f"{PRESET}: {error}") from error
    choice = settle(Choice, {"name": said} if isinstance(said, str) else said or {}, PRESET)
    section = package.rpartition(".")[2]
    listed: list[Any] = getattr(preset(choice.name), section, [])
    if not listed:
        raise RecipeError(f"preset {choice.name}: has no {section}")
    if unknown := set(choice.without) - {_split(each)[0] for each in listed}:
        raise RecipeError(f"preset {choice.name}: has no {min(unknown)} to leave out")
    return [each for each in listed if _split(each)[0] not in choice.without]


def _lay(package: str, made: list[Any], given: set[int], entry: Any) -> None:
    """Lay an entry over the one of a preset that it names (at its level, where it has levels), or add it."""
    try:
        name, settings = _split(check_member(entry))
    except ValueError:
        made.append(entry)  # `build` tells what is wrong with it
        return
    wanted = _which(package, name, settings)
    same = [place for place in sorted(given) if _which(package, *_split(made[place])) == wanted]
    if len(same) > 1:
        raise RecipeError(f"{name}: the preset has it {len(same)} times; leave it out (without) and say all")
    if same:
        made[same[0]] = {name: laid_over(_split(made[same[0]])[1], settings)}
    else:
        made.append(entry)


def _split(entry: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    ((name, settings),) = entry.items()
    return name, settings or {}


def _which(package: str, name: str, settings: dict[str, Any]) -> tuple[str, Any]:
    """What an entry is about: the member, and the level that it judges where its class knows levels."""
    field = find(package, name, Settings).model_fields.get("level")
    return name, settings.get("level", field.default) if field else None
