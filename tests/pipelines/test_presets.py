"""Presets: every one resolves, says its source and what it leaves out; later entries change them."""

import re

import pytest
import yaml

from lcl_data.dedupe import Rule
from lcl_data.filters import Filter
from lcl_data.filters.image_count import ImageCount
from lcl_data.filters.similarity import Similarity
from lcl_data.filters.text_length import TextLength
from lcl_data.filters.url_words import UrlWords
from lcl_data.views import check
from pipelines.preset import FOLDER, preset, preset_names
from pipelines.recipes import members, read, rules
from schemas.errors import RecipeError

FILTERS, RULES = "lcl_data.filters", "lcl_data.dedupe"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves_and_teaches(name: str) -> None:
    said = preset(name)
    assert re.search(r"arXiv \d{4}\.\d{5}", said.source)
    assert said.left_out
    check(members(FILTERS, [{"preset": name}], Filter))
    if said.dedupe:
        assert members(RULES, [{"preset": name}], Rule)


@pytest.mark.parametrize("name", preset_names())
def test_every_number_has_its_source_beside_it(name: str) -> None:
    """A comment stands on the line of each member, or on the line of its name where settings follow below."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    lists = text[text.index("filters:") : text.index("left_out:")]
    entries = [line for line in lists.splitlines() if line.startswith("  - ")]
    assert entries
    assert [line for line in entries if "  # " not in line] == []


def test_the_core_of_mmc4_asks_for_all_that_mmc4_asks_for_and_more() -> None:
    whole, core = (members(FILTERS, [{"preset": name}], Filter) for name in ("mmc4", "mmc4-core"))
    assert [each for each in core if each in whole] == whole
    assert {type(each).__name__ for each in core if each not in whole} == {"TextCount", "ImageCount"}


def test_a_later_entry_lays_its_settings_over_or_adds() -> None:
    entries = [{"preset": "lcl"}, "image_count: {max: 6}", "url_words", "similarity"]
    assert members(FILTERS, entries, Filter) == [Similarity(min=0.24), ImageCount(min=1, max=6), UrlWords()]


def test_a_level_is_changed_for_itself() -> None:
    entries = [{"preset": "obelics"}, {"text_length": {"level": "text", "max_words": 500}}]
    lengths = [each for each in members(FILTERS, entries, Filter) if isinstance(each, TextLength)]
    assert [(each.level, each.min_words, each.max_words) for each in lengths] == [
        ("text", 4, 500),
        ("document", 10, 2000),
    ]


def test_entries_of_the_recipe_itself_do_not_change_each_other() -> None:
    twice = [{"text_length": {"min_words": 3}}, {"text_length": {"max_words": 9}}]
    assert len(members(FILTERS, twice, Filter)) == 2


def test_members_are_left_out_by_name() -> None:
    entries = [{"preset": {"name": "lcl", "without": ["similarity"]}}]
    assert members(FILTERS, entries, Filter) == [ImageCount(min=1, max=None)]


def test_rules_come_from_presets_and_by_default() -> None:
    assert "SameUrl" in [type(rule).__name__ for rule in rules(["obelics"], [])]
    assert len(rules([], [])) == 3


def test_a_recipe_takes_a_preset(tmp_path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"name": "r", "filters": [{"preset": "lcl"}, "url_words"]}))
    assert len(members(FILTERS, read(path).filters or [], Filter)) == 3


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("preset: obelix", "preset obelix: no such preset; did you mean obelics"),
        ("preset: {nam: lcl}", "preset.nam: no such setting; did you mean name"),
        ("preset: {name: lcl, without: [url_words]}", "preset lcl: has no url_words to leave out"),
        ("preset: 5", "write preset: {setting: value}"),
        ("preset", "no member 'preset'"),
        ("text_length: obelics", "write text_length: {setting: value}"),
    ],
)
def test_a_wrong_preset_is_told(entry: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        members(FILTERS, [entry], Filter)
    assert told in str(caught.value)


def test_a_preset_without_rules_is_told() -> None:
    with pytest.raises(RecipeError, match="preset lcl: has no dedupe"):
        rules(["lcl"], [])
