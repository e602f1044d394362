"""Decontamination of texts: runs of words of an evaluation set, wherever they stand in a document."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lcl_data.dedupe.decontaminate_text import DecontaminateText
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from schemas import members
from schemas.documents import Image
from schemas.errors import RecipeError
from tests.lcl_data.corpus import bytes_of, document, read_documents, rejects, write_documents

QUESTION = "Which of the two trains, leaving at noon, comes first to the town of Ely?"  # 14 words
WORDS = QUESTION.split()


def kept(tmp_path, corpus, against, **settings):
    docs = write_documents(tmp_path / "in", corpus)
    rule = DecontaminateText(against=against, **settings)
    ledger = deduplicate(docs, tmp_path / "out", [rule], Engine()).ledger
    return read_documents(tmp_path / "out"), ledger


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [{"q": "too short"}, {"q": {"text": [QUESTION]}, "id": 7, "note": "thirteen words " * 7}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_document_with_thirteen_words_of_it_goes(tmp_path, questions):
    loud = " ".join(WORDS[:13]).upper().replace(",", " \u2014 ")
    corpus = [[document(0, f"Before. {loud} After."), document(1, " ".join(WORDS[:12])), document(2)]]
    docs, ledger = kept(tmp_path, corpus, questions)
    assert docs == corpus[0][1:]
    assert ledger.documents.rejected == {"decontaminate_text": 1}
    assert rejects(tmp_path / "out")[0]["detail"] == "as questions.jsonl:1"


def test_a_run_across_items_drops_the_texts_it_touches(tmp_path, questions):
    parts = [" ".join(WORDS[:4]), Image("u", anchor=2), " ".join(WORDS[4:6]), " ".join(WORDS[6:]) + " Then"]
    corpus = [[document(0, "First", *parts, "last", Image("v", anchor=4))]]
    docs, ledger = kept(tmp_path, corpus, questions, remove="text")
    assert docs[0].items == ("First", Image("u"), "last", Image("v", anchor=1))
    assert ledger.texts.rejected == {"decontaminate_text": 3}


def test_fields_say_what_is_compared(tmp_path, questions):
    corpus = [[document(0, "thirteen words " * 7), document(1, QUESTION)]]
    assert kept(tmp_path, corpus, questions)[0] == []
    assert kept(tmp_path / "q", corpus, questions, fields=("q",))[0] == corpus[0][:1]


def test_what_is_not_looked_for_is_said(tmp_path, questions):
    """Whoever decontaminates must not believe that files and rows were looked for that were not."""
    held = tmp_path / "held"
    for name in ("one", "two"):
        (held / name).mkdir(parents=True)
        (held / name / "test.jsonl").write_text(questions.read_text())
    (held / "two" / "more.JSONL").write_text(json.dumps({"q": "short", "id": QUESTION}))
    (held / "csv.csv").write_text(QUESTION)
    (held / ".hidden").write_text(QUESTION)
    docs = write_documents(tmp_path / "in", [[document(0, QUESTION)]])
    rule = DecontaminateText(against=held, fields=("q",))
    manifest = deduplicate(docs, tmp_path / "out", [rule], Engine())
    assert manifest.notes == [
        "decontaminate_text: of held these files were not read: 1 .csv; it takes .txt, .jsonl, .parquet",
        "decontaminate_text: 3 of 5 rows have no text of 13 words and are not looked for",
    ]
    assert rejects(tmp_path / "out")[0]["detail"] == "as one/test.jsonl:1"
    (held / "two" / "other.jsonl").write_text(json.dumps({"question": QUESTION}))
    with pytest.raises(RecipeError, match=r"other\.jsonl: no row has a field q; its fields are question;"):
        deduplicate(docs, tmp_path / "again", [rule], Engine())


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "parquet"])
def test_every_kind_of_file_and_folders_of_them(tmp_path, suffix):
    folder = tmp_path / "held" / "deep"
    folder.mkdir(parents=True)
    path = folder / f"set.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"n": [1, 2], "q": [["x", None], [QUESTION]]}), path)
    else:
        path.write_text(QUESTION if suffix == "txt" else json.dumps([QUESTION]))
    (tmp_path / "held" / "readme.md").write_text("not compared")
    corpus = [[document(0, QUESTION), document(1, "kept")]]
    assert kept(tmp_path, corpus, tmp_path / "held")[0] == corpus[0][1:]


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(RecipeError, match=r"no file \.txt"):
        members.build(
            "lcl_data.dedupe", {"decontaminate_text": {"against": tmp_path / "absent"}}, DecontaminateText
        )
    (tmp_path / "set.jsonl").write_text('{"q": ')
    with pytest.raises(RecipeError, match="not jsonl"):
        kept(tmp_path, [[document(0, "a")]], tmp_path / "set.jsonl")
    (tmp_path / "short.txt").write_text("few words")
    with pytest.raises(RecipeError, match="no text of 13 words"):
        kept(tmp_path / "short", [[document(0, "a")]], tmp_path / "short.txt")


def test_a_changed_set_is_another_setting_and_a_moved_one_is_not(tmp_path, questions):
    corpus = [[document(0, QUESTION), document(1, "kept")]]
    docs = write_documents(tmp_path / "in", corpus)
    moved = tmp_path / "elsewhere" / questions.name
    moved.parent.mkdir()
    moved.write_bytes(questions.read_bytes())
    one, two = (
        deduplicate(docs, tmp_path / path.parent.name / "out", [DecontaminateText(against=path)], Engine())
        for path in (questions, moved)
    )
    assert one == two
    moved.write_text(json.dumps({"q": "kept " * 13}))
    assert deduplicate(docs, moved.parent / "out", [DecontaminateText(against=moved)], Engine()) != one


def test_among_many_runs_every_shared_one_is_found(tmp_path):
    rng = random.Random(2)
    vocabulary = [f"word{number}" for number in range(50)]
    held = [rng.choices(vocabulary, k=40) for _ in range(200)]
    (tmp_path / "held.jsonl").write_text("\n".join(json.dumps(" ".join(each)) for each in held))
    pages = [rng.choices(vocabulary, k=100) for _ in range(60)]
    for page in pages[::3]:
        at, run = rng.randrange(80), rng.choice(held)[20:24]
        page[at : at + 4] = run
    runs = {tuple(each[at : at + 4]) for each in held for at in range(37)}
    clean = [not any(tuple(page[at : at + 4]) in runs for at in range(97)) for page in pages]
    corpus = [[document(row, " ".join(page)) for row, page in enumerate(pages)]]
    docs, _ = kept(tmp_path, [corpus[0][:30], corpus[0][30:]], tmp_path / "held.jsonl", ngram=4)
    assert docs == [each for each, stays in zip(corpus[0], clean, strict=True) if stays]
    assert 0 < len(docs) < 60
    rule = DecontaminateText(against=tmp_path / "held.jsonl", ngram=4)
    deduplicate(tmp_path / "in", tmp_path / "two", [rule], Engine(2))
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "out")
