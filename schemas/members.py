"""Name = file = class = recipe key: `text_length` is the class `TextLength` of the module `text_length`.

There is no registry: a name is resolved by importing the module of that name, so an addition costs one file
and an import is paid only by who uses it. A third party's member is `package.module:Class`.
"""

import difflib
import importlib
import pkgutil
from typing import Any, TypeVar

from schemas.errors import RecipeError
from schemas.overrides import settle
from schemas.recipe import Settings, check_member

T = TypeVar("T", bound=Settings)


def names(package: str) -> list[str]:
    """The names of the members of a folder such as `lcl_data.filters`, sorted."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path))


def class_name(name: str) -> str:
    """The class of a member's module: `text_length` -> `TextLength`."""
    return "".join(word.capitalize() for word in name.split("_"))


def find(package: str, name: str, kind: type[T]) -> type[T]:
    """The class called `name` in the folder `package`.

    Raises:
        RecipeError: there is none (the nearest names are listed), or it is not a `kind`.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        known = names(package)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise RecipeError(f"{package}: no member '{name}'; did you mean {', '.join(near)}?")
        module, attribute = f"{package}.{name}", class_name(name)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            f"{name}: cannot be imported ({error}); write it as package.module:Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise RecipeError(f"{name}: is not a {kind.__name__}")
    return found


def build(package: str, member: Any, kind: type[T], place: str = "") -> T:
    """The member a recipe entry describes: `same_url`, or `{text_length: {min_words: 10}}`.

    Args:
        package: folder of the members.
        member: the entry, of whatever form it came in.
        kind: what the member must be.
        place: where its settings stand, for messages; the member's name if empty.

    Raises:
        RecipeError: not an entry, unknown name, or settings that its class refuses.
    """
    try:
        entry = check_member(member)
    except ValueError as error:
        raise RecipeError(f"{package}: {error}") from error
    ((name, settings),) = ({entry: None} if isinstance(entry, str) else entry).items()
    return settle(find(package, name, kind), settings or {}, place or name)


def key(member: Settings) -> str:
    """The recipe key of a member: the name of its module, or package.module:Class for a third party's."""
    kind = type(member)
    name = kind.__module__.rpartition(".")[2]
    return name if class_name(name) == kind.__name__ else f"{kind.__module__}:{kind.__name__}"
