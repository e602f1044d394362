"""Pages of one host with one set of pictures."""

import json
from dataclasses import replace

import pytest

from lcl_data.dedupe.image_set import ImageSet
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from schemas.documents import Image
from tests.lcl_data.corpus import bytes_of, document, read_documents, write_documents

A, B, C = (Image(f"http://cdn/{name}.jpg", sha256=name) for name in "abc")
A_MOVED = Image("http://other/a.jpg", sha256="a")


def kept(folder, documents, rule=None):
    """Numbers of the documents kept, of (page, images...)."""
    made = [document(number, "text", *images, url=page) for number, (page, *images) in enumerate(documents)]
    docs = write_documents(folder / "in", [made[::2], made[1::2]])
    ledger = deduplicate(docs, folder / "out", [rule or ImageSet()], Engine()).ledger
    assert ledger.documents.balances
    assert ledger.images.balances
    numbers = {each.id: number for number, each in enumerate(made)}
    return sorted(numbers[each.id] for each in read_documents(folder / "out"))


def test_the_same_set_in_any_order_and_number_is_one_page(tmp_path):
    assert len(kept(tmp_path, [("http://s/1", A, B), ("http://s/2", B, A, A), ("http://s/3", A)])) == 2


@pytest.mark.parametrize(
    ("page", "is_same"),
    [
        ("https://WWW.s:8080/x?y", True),
        ("http://user@s/2", True),
        ("http://sub.s/2", False),
        ("http://s.org/2", False),
        ("s/2", False),
        (None, False),
    ],
)
def test_only_within_a_host(tmp_path, page, is_same):
    assert len(kept(tmp_path, [("http://s/1", A, B), (page, A, B)])) == (1 if is_same else 2)


@pytest.mark.parametrize(("keep", "left"), [("last", [2]), ("first", [0])])
def test_which_one_stays(tmp_path, keep, left):
    pages = [(f"http://s/{number}", A) for number in range(3)]
    made = [[document(number, *images, url=page)] for number, (page, *images) in enumerate(pages)]
    docs = write_documents(tmp_path / "in", made)
    deduplicate(docs, tmp_path / "out", [ImageSet(keep=keep)], Engine())
    assert [each.id for each in read_documents(tmp_path / "out")] == [document(n).id for n in left]


@pytest.mark.parametrize(("rule", "left"), [
    (ImageSet(), 0), (ImageSet(keep="first"), 2), (ImageSet(dates=()), 2), (ImageSet(dates=("seen.at",)), 1),
])  # fmt: skip
def test_the_latest_crawl_stays_wherever_it_is_read(tmp_path, rule, left):
    metas = [
        {"general_metadata": {"warc_filename": "CC-MAIN-20210301000000-20210301030000.warc.gz"}},
        {"date": "2020-05-25T22:39:29Z", "seen": {"at": "2024-01-01"}},
        {},
    ]
    made = [
        replace(document(n, A, url=f"http://s/{n}"), meta=json.dumps(meta)) for n, meta in enumerate(metas)
    ]
    docs = write_documents(tmp_path / "in", [[each] for each in made])
    deduplicate(docs, tmp_path / "out", [rule], Engine())
    assert [each.id for each in read_documents(tmp_path / "out")] == [made[left].id]


def test_bytes_or_urls(tmp_path):
    pages = [("http://s/1", A, C), ("http://s/2", A_MOVED, C)]
    assert kept(tmp_path / "url", pages) == [0, 1]
    assert len(kept(tmp_path / "bytes", pages, ImageSet(by="bytes"))) == 1


def test_pages_without_pictures_or_with_too_few_have_no_copies(tmp_path):
    pages = [("http://s/1",), ("http://s/2",), ("http://s/3", A), ("http://s/4", A)]
    assert kept(tmp_path, pages, ImageSet(min_images=2)) == [0, 1, 2, 3]


def test_workers_do_not_change_a_byte_and_a_second_run_drops_nothing(tmp_path):
    made = [document(n, (A, B, C)[n % 3], url=f"http://s{n % 2}/{n}") for n in range(24)]
    docs = write_documents(tmp_path / "in", [made[at::4] for at in range(4)])
    one = deduplicate(docs, tmp_path / "one", [ImageSet()], Engine())
    assert one.ledger.documents.kept == 6
    assert deduplicate(docs, tmp_path / "two", [ImageSet()], Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    again = deduplicate(tmp_path / "one", tmp_path / "again", [ImageSet()], Engine())
    assert not again.ledger.documents.rejected
