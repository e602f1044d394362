"""Name = file = class = recipe key, and what is said of a name that is none."""

import pytest

from lcl_data.dedupe import Rule
from lcl_data.sources import Source
from lcl_data.sources.mmc4 import Mmc4
from schemas import members
from schemas.errors import RecipeError

SOURCES = "lcl_data.sources"


def test_a_setting_of_what_has_none_is_told_so():
    with pytest.raises(RecipeError, match=r"^exact_document\.scope: no such setting; there are none$"):
        members.build("lcl_data.dedupe", {"exact_document": {"scope": "corpus"}}, Rule)


def test_every_source_is_found_by_its_name_and_knows_it():
    names = members.names(SOURCES)
    assert {"mmc4", "obelics"} <= set(names)
    for name in names:
        assert members.key(members.build(SOURCES, name, Source)) == name


def test_a_name_with_settings():
    assert members.build(SOURCES, {"mmc4": {"license": "ODC-BY-1.0"}}, Source) == Mmc4(license="ODC-BY-1.0")
    assert members.build(SOURCES, {"mmc4": None}, Source) == Mmc4()


def test_a_third_partys_member():
    assert members.find(SOURCES, "lcl_data.sources.mmc4:Mmc4", Source) is Mmc4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "import no_such_thing",
            r"mine cannot be imported \(No module named 'no_such_thing'\); install what",
        ),
        ("1 / 0", r"mine cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("class Mine(", r"mine cannot be imported \(SyntaxError"),
    ],
)
def test_a_module_that_breaks_is_told(tmp_path, monkeypatch, content, message):
    (tmp_path / "mine.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecipeError, match=message):
        members.build(SOURCES, "mine:Mine", Source)


def test_a_third_partys_member_of_our_name_keeps_its_own_key(tmp_path, monkeypatch):
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mmc4.py").write_text(
        "from lcl_data.sources.mmc4 import Mmc4 as Ours\nclass Mmc4(Ours): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    built = members.build(SOURCES, "theirs.mmc4:Mmc4", Source)
    assert members.key(built) == "theirs.mmc4:Mmc4"
    with pytest.raises(RecipeError, match=r"theirs.mmc4:Mmc4.licence: no such setting; did you mean license"):
        members.build(SOURCES, {"theirs.mmc4:Mmc4": {"licence": "x"}}, Source)
    with pytest.raises(RecipeError, match=r"theirs.mmc5:Mmc4: cannot be imported .* PYTHONPATH"):
        members.build(SOURCES, "theirs.mmc5:Mmc4", Source)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("mmc5", "no member 'mmc5'; did you mean mmc4"),
        ({"mmc4": None, "obelics": None}, "one name per list entry, found mmc4, obelics"),
        ({}, "found none"),
        ({"mmc4": {"max_line_nbytes": 0}}, "max_line_nbytes"),
        ("no_such_package.module:Thing", "cannot be imported"),
        ("lcl_data.sources.mmc4:Mmc", "has no class 'Mmc'; did you mean Mmc4"),
        ("schemas.recipe:Recipe", "is not a Source; it must inherit lcl_data.sources.Source"),
    ],
)
def test_what_is_wrong_is_told(entry, message):
    with pytest.raises(RecipeError, match=message):
        members.build(SOURCES, entry, Source)
