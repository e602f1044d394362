"""Settings from outside: `a.b=c` laid over a recipe, and every mistake told with its place."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.errors import RecipeError

T = TypeVar("T", bound=BaseModel)
_LISTS = {"list_type", "tuple_type", "set_type"}
_MAPPINGS = {"dict_type", "model_type", "model_attributes_type"}
_MAPPING_WANTED = "settings are a mapping, such as {name: value}"


def nested(pairs: Iterable[str]) -> dict[str, Any]:
    """`["fetch.timeout_s=5"]` -> `{"fetch": {"timeout_s": 5}}`; values are YAML, so `[a, b]` and `true` work.

    Raises:
        RecipeError: a pair without `=`.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals:
            raise RecipeError(f"--set {pair}: write it as name.of.setting=value")
        try:
            leaf: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {pair}: the value is not YAML ({one_line(error)})") from error
        for name in reversed(path.split(".")):
            leaf = {name: leaf}
        values = laid_over(values, leaf)
    return values


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with every leaf of `above` put over it; a list or a number replaces, a mapping merges."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = laid_over(old, value) if both else value  # type: ignore[arg-type]
    return merged


def settle(kind: type[T], values: Any, place: str = "") -> T:
    """Validate settings.

    Args:
        kind: the settings class.
        values: what the recipe and the command line say: a mapping.
        place: where they stand in the recipe, for the message.

    Raises:
        RecipeError: naming every wrong setting, with the nearest names for a misspelt one.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"{place}: {_MAPPING_WANTED} (found {values!r})")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        wrong = "; ".join(_line(kind, place, dict(e)) for e in error.errors())
        raise RecipeError(wrong) from error


def _line(kind: type[BaseModel], place: str, error: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in (place, *error["loc"]) if part != "")
    if error["type"] != "extra_forbidden":
        return f"{path}: {_told(error)}" if path else _told(error)
    known = _fields(kind, error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), known, n=3) or known
    return f"{path}: no such setting; " + (f"did you mean {', '.join(near)}?" if near else "there are none")


def _told(error: dict[str, Any]) -> str:
    """What is wrong with a value: our own validators name it themselves, pydantic's words need it added."""
    kind, found = error["type"], error["input"]
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind in _LISTS:
        return f"write a list: [{found}]"
    if kind in _MAPPINGS:
        return f"{_MAPPING_WANTED} (found {found!r})"
    return f"{error['msg']} (found {found!r})"


def one_line(error: Exception) -> str:
    """A library's message of several lines in one."""
    return " ".join(str(error).split())


def _fields(kind: Any, path: tuple[Any, ...]) -> list[str]:
    """Names of the settings at `path` below a class; those of the last class where the path leaves models."""
    for name in path:
        field = kind.model_fields.get(name)
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        kind = inner
    return sorted(kind.model_fields)


def differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    """Every setting whose value differs, in words, by its dotted name."""
    found = []
    for name in sorted({*there, *here}):
        old, new = there.get(name), here.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name} is {old} in the checkpoint, {new} here")
    return found
