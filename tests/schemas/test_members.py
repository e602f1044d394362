"""Name = file = class = recipe key, and what is said of a name that is none."""

import pytest

from lcl_data.sources import Source
from lcl_data.sources.mmc4 import Mmc4
from schemas import members
from schemas.errors import RecipeError

SOURCES = "lcl_data.sources"


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
    ("entry", "message"),
    [
        ("mmc5", "no member 'mmc5'; did you mean mmc4"),
        ({"mmc4": None, "obelics": None}, "one name per list entry, found mmc4, obelics"),
        ({}, "found none"),
        ({"mmc4": {"max_line_nbytes": 0}}, "max_line_nbytes"),
        ("no_such_package.module:Thing", "cannot be imported"),
        ("lcl_data.sources.mmc4:Absent", "cannot be imported"),
        ("schemas.recipe:Recipe", "is not a Source"),
    ],
)
def test_what_is_wrong_is_told(entry, message):
    with pytest.raises(RecipeError, match=message):
        members.build(SOURCES, entry, Source)
