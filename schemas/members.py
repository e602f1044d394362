"""Name = file = class = recipe key: `text_length` is the class `TextLength` of the module `text_length`.

There is no registry: a name is resolved by importing the module of that name, so an addition costs one file
and an import is paid only by who uses it. A third party's member is `package.module:Class`.
"""

import difflib
import importlib
import pkgutil
import sys
from types import ModuleType
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
    found = getattr(_imported(name, module), attribute, None)
    if found is None:
        known = [each for each, value in vars(sys.modules[module]).items() if isinstance(value, type)]
        near = difflib.get_close_matches(attribute, known, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise RecipeError(f"{name}: {module} has no class '{attribute}'{hint}")
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise RecipeError(
            f"{name}: is not a {kind.__name__}; it must inherit {kind.__module__}.{kind.__name__}"
        )
    return found


def _imported(name: str, module: str) -> ModuleType:
    """The module of a member; it may be a third party's, so that anything may go wrong in it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            raise RecipeError(
                f"{name}: cannot be imported ({error}); write package.module:Class, and install the "
                "package or add its folder to PYTHONPATH"
            ) from error
        raise RecipeError(f"{name}: {module} cannot be imported ({error}); install what it needs") from error
    except Exception as error:
        raise RecipeError(f"{name}: {module} cannot be imported ({type(error).__name__}: {error})") from error


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
    folder, _, name = kind.__module__.rpartition(".")
    is_ours = any(base.__module__ == folder for base in kind.__mro__)  # a folder's __init__ holds its kind
    if is_ours and class_name(name) == kind.__name__:
        return name
    return f"{kind.__module__}:{kind.__name__}"
