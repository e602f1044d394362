"""Texts repeated across a host: which go, which stay, and where the anchors point then."""

from lcl_data.dedupe.paragraph import Paragraph
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from schemas.documents import Image
from tests.lcl_data.corpus import bytes_of, document, read_documents, rejects, write_documents

NOTE = "We use  cookies."


def kept(tmp_path, corpus, rule=None):
    docs = write_documents(tmp_path / "in", corpus)
    ledger = deduplicate(docs, tmp_path / "out", [rule or Paragraph()], Engine()).ledger
    return read_documents(tmp_path / "out"), ledger


def test_what_three_pages_of_a_host_say_goes_everywhere(tmp_path):
    hosts = [
        "http://a.org/1",
        "https://www.A.org:80/2",
        "http://u@a.org",
        "http://b.org/1",
        "http://b.org/2",
        None,
    ]
    corpus = [[document(row, f"page {row}", NOTE, url=url)] for row, url in enumerate(hosts)]
    docs, ledger = kept(tmp_path, corpus)
    assert [len(each.texts) for each in docs] == [1, 1, 1, 2, 2, 2]
    assert (ledger.texts.read, ledger.texts.kept, ledger.texts.rejected) == (12, 9, {"paragraph": 3})
    assert ledger.documents.kept == 6
    assert [(row["kind"], row["item"], row["detail"]) for row in rejects(tmp_path / "out")] == [
        ("texts", 1, None)
    ] * 3


def test_what_one_page_repeats_stays(tmp_path):
    corpus = [[document(row, *["Answer:"] * 5, url="http://a.org") for row in range(2)]]
    assert kept(tmp_path, corpus)[1].texts.rejected == {}
    assert kept(tmp_path / "two", corpus, Paragraph(min_documents=2))[1].texts.rejected == {"paragraph": 10}


def test_white_space_does_not_count_and_blank_texts_are_no_paragraphs(tmp_path):
    notes = [NOTE, " We use\ncookies. ", "We use cookies."]
    corpus = [[document(row, note, " ", url="http://a.org") for row, note in enumerate(notes)]]
    docs, _ = kept(tmp_path, corpus)
    assert [each.items for each in docs] == [(" ",)] * 3


def test_anchors_follow(tmp_path):
    own = Image("u", anchor=2)
    notes = Image("v", anchor=0)
    pages = [
        document(row, NOTE, notes, f"one {row}", own, f"two {row}", url="http://a.org") for row in range(3)
    ]
    docs, _ = kept(tmp_path, [pages])
    assert docs[0].items == (Image("v"), "one 0", Image("u", anchor=1), "two 0")


def test_again_drops_nothing_and_workers_change_no_byte(tmp_path):
    corpus = [
        [
            document(10 * shard + row, f"{row % 4}", f"{row} {shard}", url=f"http://h{row % 2}/")
            for row in range(8)
        ]
        for shard in range(4)
    ]
    docs = write_documents(tmp_path / "in", corpus)
    once = deduplicate(docs, tmp_path / "out", [Paragraph()], Engine())
    assert once.ledger.texts.rejected == {"paragraph": 32}
    assert once.ledger.texts.balances
    again = deduplicate(tmp_path / "out", tmp_path / "again", [Paragraph()], Engine())
    assert again.ledger.texts.rejected == {}
    assert again.ledger.texts.read == once.ledger.texts.kept
    assert deduplicate(docs, tmp_path / "two", [Paragraph()], Engine(2)) == once
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "out")


def test_a_shard_that_was_emptied_and_one_without_texts_are_no_obstacle(tmp_path):
    page = document(0, Image("u"), url="http://a.org")
    docs, ledger = kept(tmp_path, [[], [page]])
    assert docs == [page]
    assert (ledger.texts.read, ledger.texts.kept) == (0, 0)
