"""Numbers of upstream without a column of ours: cut, or said to be unmeasured."""

import pytest
from pydantic import ValidationError

from lcl_data.filters.meta_number import MetaNumber
from tests.lcl_data.test_filters import reasons

META = [
    '{"p": 0.2}',
    '{"p": 0.7}',
    '{"p": null}',
    '{"q": 1}',
    None,
    '{"p": "x"}',
    '{"p": "0.9"}',
    '{"p": -1}',
]


def test_a_number_is_cut_at_its_thresholds():
    found = reasons(MetaNumber(field="p", min=0, max=0.5), meta=META)
    high, low, none = "p_too_high", "p_too_low", "unmeasured"
    assert found == [None, high, none, none, none, none, high, low]


def test_what_is_missing_may_stay():
    found = reasons(MetaNumber(field="p", max=0.5, missing="keep"), meta=META)
    assert found == [None, "p_too_high", None, None, None, None, "p_too_high", None]


@pytest.mark.parametrize("settings", [{"field": "p"}, {"field": "a'b", "max": 1}])
def test_settings_that_cut_nothing_are_refused(settings):
    with pytest.raises(ValidationError):
        MetaNumber(**settings)
