"""Boilerplate pictures: how many documents hold them decides, and which of them stay."""

import pytest

from lcl_data.dedupe.boilerplate_image import BoilerplateImage
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from schemas.documents import Image
from tests.lcl_data.corpus import bytes_of, document, read_documents, rejects, write_documents

BANNER, NEIGHBOUR = Image("http://h/banner", sha256="bb", phash=7), Image("http://h/b2", sha256="b2", phash=7)


def corpus(banners, shards=3):
    """Documents of which the first `banners` hold the banner, among pictures of their own."""
    documents = []
    for number in range(12):
        own = Image(f"http://h/{number}", sha256=f"{number}", phash=100 + number)
        documents.append(document(number, own, *([BANNER] if number < banners else [])))
    return [documents[at::shards] for at in range(shards)]


def kept(folder, shards, rule):
    docs = write_documents(folder / "in", shards)
    ledger = deduplicate(docs, folder / "out", [rule], Engine()).ledger
    assert ledger.images.balances
    return [image.url for each in read_documents(folder / "out") for image in each.images], ledger


@pytest.mark.parametrize(("banners", "left"), [(10, 10), (11, 0)])
def test_more_than_ten_documents_are_too_many(tmp_path, banners, left):
    urls, ledger = kept(tmp_path, corpus(banners), BoilerplateImage())
    assert urls.count(BANNER.url) == left
    assert len(urls) == 12 + left
    assert ledger.images.rejected.get("boilerplate_image", 0) == banners - left


def test_one_may_stay(tmp_path):
    urls, _ = kept(tmp_path, corpus(12), BoilerplateImage(keep="first"))
    assert urls.count(BANNER.url) == 1
    assert {row["detail"] for row in rejects(tmp_path / "out")} == {f"kept {document(0).id}"}


def test_a_document_counts_once(tmp_path):
    many = [[document(0, *[BANNER] * 50), document(1, BANNER)]]
    urls, _ = kept(tmp_path, many, BoilerplateImage(documents=2))
    assert len(urls) == 51


@pytest.mark.parametrize(("by", "left"), [("bytes", 2), ("phash", 0), ("url", 2)])
def test_what_is_equal_is_chosen(tmp_path, by, left):
    """The banner in two sizes: other bytes, another URL, one perceptual hash."""
    two = [[document(number, BANNER if number % 2 else NEIGHBOUR) for number in range(4)]]
    more = [[*two[0], document(4, BANNER), document(5, BANNER)]]
    urls, _ = kept(tmp_path, more, BoilerplateImage(documents=3, by=by))
    assert urls.count(NEIGHBOUR.url) == left
    assert BANNER.url not in urls


def test_what_is_not_known_is_left_alone(tmp_path):
    unknown = [[document(number, Image("http://h/same")) for number in range(4)]]
    assert len(kept(tmp_path, unknown, BoilerplateImage(documents=1))[0]) == 4


def test_workers_do_not_change_a_byte_and_a_second_run_drops_nothing(tmp_path):
    docs = write_documents(tmp_path / "in", corpus(12))
    rule = BoilerplateImage()
    one = deduplicate(docs, tmp_path / "one", [rule], Engine())
    assert deduplicate(docs, tmp_path / "two", [rule], Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    assert not deduplicate(tmp_path / "one", tmp_path / "again", [rule], Engine()).ledger.images.rejected
