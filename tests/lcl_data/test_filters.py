"""Each filter: what it rejects, under which reason, and what it says where the fact was never measured."""

import math

import polars as pl
import pytest

from lcl_data.filters import Filter
from lcl_data.filters.image_aspect import ImageAspect
from lcl_data.filters.image_bytes import ImageBytes
from lcl_data.filters.image_count import ImageCount
from lcl_data.filters.image_size import ImageSize
from lcl_data.filters.similarity import Similarity
from lcl_data.filters.text_length import TextLength
from lcl_data.filters.url_words import UrlWords
from lcl_data.views import measured
from schemas import members
from schemas.errors import RecipeError


def reasons(filter_, **columns):
    """The reason for each row, without the filter's name."""
    types = {"similarity": pl.Float32, "nbytes": pl.Int64, "width": pl.Int32, "height": pl.Int32}
    frame = pl.DataFrame(columns, schema_overrides={name: types[name] for name in columns if name in types})
    found = measured(frame, [filter_]).select(filter_.reason().alias("reason"))["reason"].to_list()
    assert all(reason is None or reason.startswith(f"{members.key(filter_)}:") for reason in found)
    return [reason and reason.partition(":")[2] for reason in found]


def test_text_length():
    texts = ["", "one two", " one\ntwo  three\t", "one two three four five"]
    assert reasons(TextLength(min_words=3, max_words=4), text=texts) == ["too_short"] * 2 + [None, "too_long"]


def test_image_size():
    found = reasons(
        ImageSize(min_side_px=150, max_side_px=1000),
        width=[150, 149, 1000, 1001, None, None, 20],
        height=[150, 900, 1000, 900, 900, 20, None],
    )
    assert found == [None, "too_small", None, "too_large", "unmeasured", "too_small", "too_small"]


def test_image_aspect():
    found = reasons(ImageAspect(), width=[200, 201, 100, 100, None], height=[100, 100, 200, 201, 100])
    assert found == [None, "too_long", None, "too_long", "unmeasured"]


def test_image_bytes():
    assert reasons(ImageBytes(), nbytes=[4999, 5000, 10**9, None]) == ["too_few", None, None, "unmeasured"]
    assert reasons(ImageBytes(max=6000), nbytes=[6000, 6001]) == [None, "too_many"]


def test_url_words_match_words_and_not_parts_of_them():
    furniture = "site-logo.png icons/24.png logo2.gif siteLogo.png LogoSmall.png LOGO.png social_icon%20.png"
    honest = "iconic.jpg silicon.jpg favicon.ico Iconography.png Silicon.jpg ICONIC.png catalogos.jpg"
    urls = [f"https://h.org/a/{name}" for name in furniture.split()]
    assert reasons(UrlWords(), url=urls) == ["stop_word"] * len(urls)
    urls = [f"https://h.org/a/{name}" for name in honest.split()]
    assert reasons(UrlWords(), url=urls) == [None] * len(urls)
    assert reasons(UrlWords(words=("c++",)), url=["https://h.org/c++.png", "https://h.org/c.png"]) == [
        "stop_word",
        None,
    ]


def test_similarity_keeps_the_threshold_itself():
    assert reasons(Similarity(), similarity=[0.24, 0.2399]) == [None, "too_low"]


def test_a_similarity_that_is_no_number_is_not_kept_as_one():
    assert reasons(Similarity(), similarity=[None, math.nan, 0.3]) == ["unmeasured", "unmeasured", None]


def test_image_count():
    assert reasons(ImageCount(max=2), images=[0, 1, 2, 3]) == ["too_few", None, None, "too_many"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"text_length": {"min_words": 10, "max_words": 9}}, "min_words 10 is above max_words 9"),
        ({"image_size": {"max_side_px": 100}}, "min_side_px 150 is above max_side_px 100"),
        ({"score": {"name": "clip", "min": 1, "max": 0}}, "min 1.0 is above max 0.0"),
        ({"gopher_repetition": {"max_top_ngram_chars": {0: 0.1}}}, "greater than or equal to 1"),
        ({"gopher_repetition": {"max_repeated_ngram_chars": {5: 15}}}, "less than or equal to 1"),
        ({"language": {"languages": ["english"]}}, "found 'english'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(entry, told):
    with pytest.raises(RecipeError, match=told):
        members.build("lcl_data.filters", entry, Filter)


def test_equal_bounds_keep_what_lies_on_them():
    assert reasons(TextLength(min_words=2, max_words=2), text=["a", "a b", "a b c"])[1] is None


# What has no default: a list that is the user's to give.
NEEDED = {
    "score": {"name": "clip", "min": 0.28},
    "meta_number": {"field": "punsafe", "max": 0.5},
    "flagged_words": {"file": __file__},
    "domains": {"deny": ["h.org"]},
}


@pytest.mark.parametrize("name", members.names("lcl_data.filters"))
def test_every_filter_is_what_its_file_says_and_has_defaults(name):
    built = members.build("lcl_data.filters", {name: NEEDED.get(name)}, Filter)
    assert members.key(built) == name
    assert all(field.description for field in type(built).model_fields.values())


def test_a_misspelt_setting_is_refused():
    with pytest.raises(RecipeError, match="min_word"):
        members.build("lcl_data.filters", {"text_length": {"min_word": 3}}, Filter)
