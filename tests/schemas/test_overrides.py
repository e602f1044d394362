"""`--set a.b=c` reaches nested settings, and mistakes name their place and the nearest name."""

import pytest

from schemas.errors import RecipeError
from schemas.overrides import laid_over, nested, settle
from schemas.recipe import Settings


class Fetch(Settings):
    timeout_s: float = 10.0
    hosts: tuple[str, ...] = ()


class Step(Settings):
    fetch: Fetch = Fetch()


def test_values_are_yaml_and_merge() -> None:
    values = nested(["fetch.timeout_s=5", "fetch.hosts=[a, b]", "name=x=y"])
    assert values == {"fetch": {"timeout_s": 5, "hosts": ["a", "b"]}, "name": "x=y"}


def test_the_later_one_wins_and_the_rest_stays() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert laid_over(below, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (["fetch.timeout=5"], r"fetch\.timeout: no such setting; did you mean timeout_s"),
        (["fetch.timeout_s=soon"], r"fetch\.timeout_s: .*'soon'"),
        (["fetch"], "name.of.setting=value"),
        (["a=[1"], "not YAML"),
    ],
)
def test_mistakes_name_place_and_remedy(pairs: list[str], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        settle(Step, nested(pairs))
