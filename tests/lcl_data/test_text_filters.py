"""Laws of all filters of wording: any text, levels, workers; and text length."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.c4_quality import C4Quality
from lcl_data.filters.character_repetition import CharacterRepetition
from lcl_data.filters.fineweb_quality import FinewebQuality
from lcl_data.filters.gopher_quality import GopherQuality
from lcl_data.filters.gopher_repetition import GopherRepetition
from lcl_data.filters.punctuation import Punctuation
from lcl_data.filters.special_characters import SpecialCharacters
from lcl_data.filters.stop_words import StopWords
from lcl_data.filters.text_length import TextLength
from lcl_data.filters.word_repetition import WordRepetition
from lcl_data.views import check
from schemas import members
from schemas.documents import Image
from tests.lcl_data.corpus import bytes_of, document, write_documents
from tests.lcl_data.judging import CHINESE, PROSE, judged, reasons

WORDING = [
    C4Quality(),
    CharacterRepetition(),
    FinewebQuality(),
    GopherQuality(),
    GopherRepetition(),
    Punctuation(),
    SpecialCharacters(),
    StopWords(),
    TextLength(),
    WordRepetition(),
]


@pytest.mark.parametrize("filter_", WORDING, ids=members.key)
@given(texts=st.lists(st.one_of(st.none(), st.text(), st.text("a .\n•…#{", max_size=80)), max_size=5))
def test_any_text_gets_a_finite_number_and_null_is_unmeasured(filter_, texts):
    rows = judged(filter_, text=texts)
    numbers = rows.drop("text", "reason").select(pl.selectors.numeric().cast(pl.Float64))
    for text, row, reason in zip(texts, numbers.rows(), rows["reason"], strict=True):
        if text is None:
            assert reason == f"{members.key(filter_)}:unmeasured"
        else:
            assert all(0 <= number < float("inf") for number in row)
            assert reason is None or not reason.endswith("unmeasured")


@pytest.mark.parametrize("filter_", WORDING, ids=members.key)
def test_each_row_is_judged_by_itself(filter_):
    texts = [PROSE * 6, "", None, CHINESE * 9, "one two\none two", "x" * 50, PROSE]
    alone = [reasons(filter_, text=[text])[0] for text in texts]
    assert reasons(filter_, text=texts) == alone


def test_text_length_is_cut_where_the_level_says():
    texts = ["a b c", "a b c d", "w " * 10, "w " * 1001]
    assert reasons(TextLength(), text=texts) == ["too_short", "too_short", None, None]
    assert reasons(TextLength(level="text"), text=texts) == ["too_short", None, None, "too_long"]
    assert reasons(TextLength(min_words=0), text=["", "a"]) == [None, None]


def test_a_filter_may_stand_twice_at_two_levels_and_two_cutoffs(tmp_path):
    check([kind(level=level) for level in ("text", "document") for kind in map(type, WORDING)])
    check([StopWords(min=0.1), StopWords(min=0.2), GopherQuality(min_words=1), GopherQuality()])


def test_workers_do_not_change_a_byte(tmp_path):
    corpus = [
        [document(10 * shard + n, PROSE * n, CHINESE, "a b c d e f " * n, Image("u")) for n in range(8)]
        for shard in range(3)
    ]
    docs = write_documents(tmp_path / "in", corpus)
    cuts = (*(type(each)(level="text") for each in WORDING[1:3]), *WORDING)
    one = filter_documents(docs, tmp_path / "one", cuts, Engine())
    assert one.ledger.documents.balances
    assert one.ledger.texts.balances
    assert filter_documents(docs, tmp_path / "two", cuts, Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
