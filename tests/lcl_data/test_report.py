"""The report of filters: it counts what the stage would cut, alone and in sequence, whoever counts it."""

import math
from collections import Counter
from typing import ClassVar, Literal

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters import Filter
from lcl_data.filters.image_aspect import ImageAspect
from lcl_data.filters.image_count import ImageCount
from lcl_data.filters.image_size import ImageSize
from lcl_data.filters.similarity import Similarity
from lcl_data.filters.text_length import TextLength
from lcl_data.filters.url_words import UrlWords
from lcl_data.report import QUANTILES, _spread, _values, report
from schemas.documents import Image
from schemas.errors import RecipeError
from schemas.manifest import Count
from tests.lcl_data.corpus import document, shards, write_documents, write_store


class ShortTexts(Filter):
    """Cuts text items, so that texts are counted."""

    applies_to: ClassVar[Literal["text"]] = "text"

    def facts(self) -> dict[str, pl.Expr]:
        return {"letters": pl.col("text").str.len_chars()}

    def reasons(self) -> dict[str, pl.Expr]:
        return {"short": pl.col("letters") < 3}


FILTERS = (
    UrlWords(),
    Similarity(min=0.25),
    ImageSize(),
    ShortTexts(),
    TextLength(min_words=1, max_words=3),
    TextLength(min_words=2),
    ImageCount(max=2),
)


@given(shards())
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_counts_what_the_stage_cuts(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("report")
    docs = write_documents(folder / "in", corpus)
    told = report(docs, FILTERS, Engine())
    assert told.ledger == filter_documents(docs, folder / "out", FILTERS, Engine()).ledger
    for number, each in enumerate(FILTERS):
        kind = f"{each.applies_to}s"
        alone = filter_documents(docs, folder / f"{number}", (each,), Engine()).ledger
        assert told.filters[number].alone == sum((getattr(alone, kind) or Count()).rejected.values())
        assert told.filters[number].in_sequence <= told.seen[each.applies_to]
    assert told.filters[0].in_sequence == told.filters[0].alone  # nothing cuts before the first
    assert told.seen["image"] == sum(len(each.images) for shard in corpus for each in shard)


def test_a_row_counts_under_every_reason_that_holds_but_once_in_sequence(tmp_path):
    wide = Image("u", width=30_000, height=100)
    docs = write_documents(tmp_path / "in", [[document(0, wide, Image("v")), document(1, "one two")]])
    told = report(docs, (ImageSize(), ImageAspect(), TextLength(min_words=1)), Engine())
    size, aspect, length = told.filters
    found = {name: (effect.alone, effect.in_sequence) for name, effect in size.reasons.items()}
    assert found == {"too_small": (1, 1), "too_large": (1, 0), "unmeasured": (1, 1)}
    assert (size.alone, size.in_sequence, aspect.alone, aspect.in_sequence) == (2, 2, 2, 0)
    assert (length.filter, length.settings["min_words"], length.alone) == ("text_length", 1, 1)
    assert set(told.facts["image"]) == {"shorter_side_px", "longer_side_px", "aspect"}
    assert told.facts["image"]["aspect"].model_dump() == {
        "measured": 1,
        "unmeasured": 1,
        "quantiles": dict.fromkeys((f"p{q}" for q in QUANTILES), 300.0),
    }
    assert told.facts["document"]["words"].quantiles["p50"] == 0


def test_the_store_is_attached_and_workers_do_not_matter(tmp_path):
    images = write_store(
        tmp_path / "images",
        *({"url": f"http://h/{n}", "original_width": 7 * n, "original_height": 90} for n in range(1, 40)),
    )
    corpus = [
        [document(40 * s + n, Image(f"http://h/{n}"), "some text") for n in range(40)] for s in range(5)
    ]
    docs = write_documents(tmp_path / "in", corpus)
    told = report(docs, FILTERS, Engine(), images=images)
    assert told.ledger == filter_documents(docs, tmp_path / "out", FILTERS, Engine(), images=images).ledger
    assert told.ledger.images.rejected["download:missing"] == 5
    assert told.seen["image"] == 195
    assert report(docs, FILTERS, Engine(3), images=images) == told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "in", "out"]


def test_a_torn_shard_is_named_and_in_no_number(tmp_path):
    docs = write_documents(tmp_path / "in", [[document(0, "a")], [document(1, "b")]])
    (docs / "00001.parquet").write_bytes(b"PAR1")
    told = report(docs, (TextLength(),), Engine())
    assert list(told.failed) == ["00001.parquet"]
    assert told.ledger.documents.read == told.seen["document"] == 1
    with pytest.raises(RecipeError, match="no such folder"):
        report(tmp_path / "nowhere", (TextLength(),), Engine())


@given(st.lists(st.none() | st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9), max_size=200))
def test_quantiles_are_those_of_the_values_to_three_digits(values):
    half = len(values) // 2  # counted in two parts, as shards are
    counted = Counter(_values(pl.Series(values[:half], dtype=pl.Float64)))
    counted.update(_values(pl.Series(values[half:], dtype=pl.Float64)))
    spread = _spread(counted)
    known = sorted(value for value in values if value is not None)
    assert (spread.measured, spread.unmeasured) == (len(known), len(values) - len(known))
    for per_cent in QUANTILES if known else ():
        exact = known[math.ceil(per_cent * len(known) / 100) - 1]
        assert spread.quantiles[f"p{per_cent}"] == pytest.approx(exact, rel=6e-3)
