"""Whose a stage folder is, and what has changed since it was filled."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lcl_data import files
from lcl_data.draft import REJECTS_FOLDER, digest_in
from schemas.errors import RecipeError
from schemas.manifest import MANIFEST, Input, Manifest, read_manifest

# All that a run killed before its first shard leaves.
_EMPTY = re.compile(r"^(rejects|exchange|decisions|pixels|\.tmp-.*)$")


def claim(out: Path, stage: str, leaves: Sequence[str] = (), proof: str = "") -> None:
    """Refuse to write into a folder that is not this stage's.

    Args:
        out: the folder; it need not exist.
        stage: name of the stage.
        leaves: names or patterns, besides shards and rejects, of what an unfinished run leaves there.
        proof: pattern of what this stage alone makes: a folder that has it is its own, with all else in it.

    Raises:
        RecipeError: naming what is in the way, and what to do.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise RecipeError(f"{out}: is a file; name a folder")
    found = set(owners(out, stage, proof))
    if others := found - {stage}:
        raise RecipeError(f"{out}: filled by `{min(others)}`, not by `{stage}`; name a new or empty folder")
    names = [] if found else [path.name for path in files.inside(out)]
    if foreign := [name for name in names if not (_EMPTY.match(name) or _is_one_of(name, leaves))]:
        raise RecipeError(f"{out}: holds '{min(foreign)}', which is not of `{stage}`; name a new folder")


def keep_apart(out: Path, read: Path) -> None:
    """Refuse to fill the folder that is read: its manifest would go before the first shard is made.

    Raises:
        RecipeError: they are one.
    """
    if not is_outside(out, read) and not is_outside(read, out):
        raise RecipeError(f"{out}: is the folder that is read; name another one to fill")


def is_outside(inner: Path, outer: Path) -> bool:
    """Whether a folder is neither another one nor anywhere below it."""
    if files.is_remote(inner) != files.is_remote(outer):
        return True
    place = inner.resolve()
    return outer.resolve() not in (place, *place.parents)


def _is_one_of(name: str, leaves: Sequence[str]) -> bool:
    return any(name == leaf or fnmatchcase(name, leaf) for leaf in leaves)


def owners(out: Path, stage: str = "", proof: str = "") -> Iterator[str]:
    """The stage that fills a folder, by its manifest or, where it is unfinished, by a proof of its own."""
    if (out / MANIFEST).exists():
        yield read_manifest(out).stage
    elif shard := next((out / REJECTS_FOLDER).glob("[0-9]*.parquet"), None):
        yield digest_in(shard).rpartition("-")[0]
    elif proof and next(out.glob(proof), None):
        yield stage


def changes(manifest: Manifest, settings: dict[str, Any], inputs: Sequence[Input]) -> str:
    """What is not as it was when the manifest was written, for a person."""
    was, now = ({source.name: source.digest for source in each} for each in (manifest.inputs, inputs))
    names = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    found = [*changed(manifest.settings, settings), *(f"input {name}" for name in names)]
    return f"changed: {', '.join(found)}" if found else "made by another LCL"


def changed(was: Any, now: Any, place: str = "") -> list[str]:
    """Names of the settings that differ, as in `filters[2].similarity.min`."""
    if isinstance(was, dict) and isinstance(now, dict):
        below = [(f"{place}.{name}" if place else name, name) for name in sorted(was.keys() | now.keys())]
        return [found for path, name in below for found in changed(was.get(name), now.get(name), path)]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = enumerate(zip(was, now, strict=True))
        return [found for number, (a, b) in pairs for found in changed(a, b, f"{place}[{number}]")]
    return [] if was == now else [place]
