"""The published schemas are those of the code, and they teach: no setting is without a description."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.publish import main, published


def settings(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a schema, members of lists among them, with its place."""
    if isinstance(schema, list):
        for each in schema:
            yield from settings(each, place)
    if not isinstance(schema, dict):
        return
    for name, inner in schema.get("properties", {}).items():
        yield f"{place}.{name}", inner
    for name, inner in schema.items():
        yield from settings(inner, f"{place}.{name}")


def test_every_setting_of_a_recipe_is_described() -> None:
    found = dict(settings(published()["recipe.json"], ""))
    assert len(found) > 60
    assert [place for place, setting in found.items() if not setting.get("description")] == []


def test_the_published_schemas_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["publish", "--check"])
    assert main() == 0
