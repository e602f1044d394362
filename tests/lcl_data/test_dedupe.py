"""Dedupe rules and their stage: which copies go, what stays, and that no order or accident changes it."""

import json
import random
import subprocess
import sys
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from lcl_data.dedupe import Rule
from lcl_data.dedupe.boilerplate_image import BoilerplateImage
from lcl_data.dedupe.exact_document import ExactDocument
from lcl_data.dedupe.image_set import ImageSet
from lcl_data.dedupe.near_document import NearDocument
from lcl_data.dedupe.near_image import NearImage
from lcl_data.dedupe.paragraph import Paragraph
from lcl_data.dedupe.same_image_bytes import SameImageBytes
from lcl_data.dedupe.same_url import SameUrl
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from lcl_data.frames import read_frames
from lcl_data.stage import document_units
from schemas import members
from schemas.decisions import DECISIONS
from schemas.documents import Image
from schemas.versions import check
from tests.lcl_data.corpus import bytes_of, document, read_documents, rejects, shards, write_documents
from tests.lcl_data.sharding import picture

PROSE = "words enough that every rule of texts has some in a row which it can compare"
ALL = (ExactDocument(), SameUrl(), SameImageBytes(scope="corpus"), NearDocument(ngram=1, threshold=0.5))


def kept(tmp_path, corpus, *rules):
    """The ids kept of a corpus, and the ledger."""
    docs = write_documents(tmp_path / "in", corpus)
    ledger = deduplicate(docs, tmp_path / "out", rules, Engine()).ledger
    return read_documents(tmp_path / "out"), ledger


def test_exact_document_ignores_white_space_and_places_and_urls_of_known_pictures(tmp_path):
    first = document(0, "a  b\x1d\n", Image("http://h/1", sha256="aa"), "e\u0301")
    corpus = [
        [first, document(1, "a b", "\u00e9", Image("http://h/2", sha256="aa"))],
        [
            document(2, "a b", Image("http://h/1"), "\u00e9"),
            document(3, "\u00e9", "a b", Image("x", sha256="aa")),
        ],
    ]
    docs, ledger = kept(tmp_path, corpus, ExactDocument())
    assert docs == [first, *corpus[1]]
    assert ledger.documents.rejected == {"exact_document": 1}
    assert ledger.images.rejected == {"document_rejected": 1}
    (copy, images) = rejects(tmp_path / "out")
    assert (copy["id"], copy["detail"], images["count"]) == (corpus[0][1].id, f"kept {first.id}", 1)


@pytest.mark.parametrize(("keep", "rows"), [("last", [2, 3, 4]), ("first", [0, 2, 3])])
def test_same_url(tmp_path, keep, rows):
    pages = ["http://p/1", "http://p/1", None, None, "http://p/1"]
    corpus = [[document(n, f"{n}", url=page) for n, page in enumerate(pages)]]
    docs, ledger = kept(tmp_path, corpus, SameUrl(keep=keep))
    assert [each.id for each in docs] == [document(row).id for row in rows]
    assert ledger.documents.rejected == {"same_url": 2}


META = [
    '{"date": "2020-05-25T22:39:29Z"}',
    '{"general_metadata": {"warc_filename": "CC-MAIN-2020-24/1590347390442.29/'
    'CC-MAIN-20200525223930-20200526013930.warc.gz"}}',
    '{"date": "2020-05-25"}',
    '{"date": "soon", "WARC-Date": "20200526000000"}',
    None,
    "no JSON",
]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 5, 2, 1, 0, 4]])
def test_same_url_keeps_the_latest_crawl(tmp_path, order):
    corpus = [[replace(document(n, f"{n}", url="http://p"), meta=META[n])] for n in order]
    assert [each.meta for each in kept(tmp_path, corpus, SameUrl())[0]] == [META[3]]
    first = kept(tmp_path / "first", corpus, SameUrl(keep="first"))[0]
    assert [each.meta for each in first] == [META[min(4, 5, key=order.index)]]
    by_order = kept(tmp_path / "plain", corpus, SameUrl(dates=()))[0]
    assert [each.meta for each in by_order] == [META[order[-1]]]


@pytest.mark.parametrize("date", ["٢٠٢٠-٠١-٠١", "٢٠٢٠٠١٠١١٢٣٠٤٥", "1577836800", "2020-13-01", 1577836800])
def test_same_url_takes_for_a_date_only_what_is_one(tmp_path, date):
    dates = ["1999-12-31", date]
    corpus = [
        [replace(document(n, f"{n}", url="http://p"), meta=json.dumps({"date": each}, ensure_ascii=False))]
        for n, each in enumerate(dates)
    ]
    assert [each.id for each in kept(tmp_path, corpus, SameUrl())[0]] == [document(0).id]


@pytest.mark.parametrize(("scope", "left"), [("document", [2, 2]), ("corpus", [2, 1])])
def test_same_image_bytes(tmp_path, scope, left):
    pictures = [Image(f"http://h/{n}", sha256=sha) for n, sha in enumerate(["aa", "aa", None])]
    corpus = [[document(0, *pictures)], [document(1, "text", *pictures)]]
    docs, ledger = kept(tmp_path, corpus, SameImageBytes(scope=scope))
    assert [len(each.images) for each in docs] == left
    assert docs[1].items[0] == "text"
    assert ledger.images.rejected == {"same_image_bytes": 6 - sum(left)}
    assert rejects(tmp_path / "out")[0]["url"] == "http://h/1"


def test_a_rule_does_not_see_what_an_earlier_one_dropped(tmp_path):
    """Together the rules would drop all three: 1 as a copy of 0, 0 for the later page 1."""
    corpus = [[document(0, "same", url="http://p/1"), document(1, "same", url="http://p/1")]]
    docs, ledger = kept(tmp_path, corpus, ExactDocument(), SameUrl())
    assert [each.id for each in docs] == [document(0).id]
    assert ledger.documents.rejected == {"exact_document": 1}


def test_decisions_say_what_was_kept(tmp_path):
    picture = Image("u", sha256="aa")
    corpus = [[document(0, "a", picture)], [document(1, "a", picture), document(2, "b", picture)]]
    kept(tmp_path, corpus, *ALL[:3])
    paths = sorted((tmp_path / "out/decisions").iterdir())
    assert [path.name for path in paths] == [
        "00_exact_document.parquet",
        "01_same_url.parquet",
        "02_same_image_bytes.parquet",
    ]
    tables = [pq.read_table(path) for path in paths]
    for table in tables:
        check(table.schema.metadata, DECISIONS, "decisions")
    ids = [document(n).id for n in range(3)]
    columns = DECISIONS.names
    copy = (1 << 32, None, ids[1], 0, None, ids[0], None, "exact_document")
    assert tables[0].to_pylist() == [dict(zip(columns, copy, strict=True))]
    assert tables[1].num_rows == 0
    picture_dropped = ((1 << 32) + 1, 1, ids[2], 0, 1, ids[0], None, "same_image_bytes")
    assert tables[2].to_pylist() == [dict(zip(columns, picture_dropped, strict=True))]


@given(shards())
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_laws(tmp_path_factory, corpus):
    """The ledger balances; a rule run twice drops nothing new; the order of shards does not change what is
    said, only which copy says it.
    """
    folder = tmp_path_factory.mktemp("laws")
    docs = write_documents(folder / "in", corpus)
    shuffled = write_documents(folder / "shuffled", list(reversed(corpus)))
    for rule in ALL:
        name = members.key(rule)
        ledger = deduplicate(docs, folder / name, [rule], Engine()).ledger
        assert ledger.documents.balances
        assert ledger.images.balances
        assert ledger.images.kept == sum(len(each.images) for each in read_documents(folder / name))
        again = deduplicate(folder / name, folder / f"{name}-2", [rule], Engine()).ledger
        assert not again.documents.rejected
        assert not again.images.rejected
        other = deduplicate(shuffled, folder / f"{name}-3", [rule], Engine()).ledger
        assert other.documents.kept == ledger.documents.kept
        if rule.drops == "images":
            assert other.images.kept == ledger.images.kept


NOT_KNOWN = [
    (SameImageBytes(), "2 of 3 images have no sha256", True),
    (NearImage(likeness=0), "1 of 3 images have no phash", True),
    (BoilerplateImage(by="phash"), "1 of 3 images have no phash", True),
    (BoilerplateImage(by="url"), "", False),
    (SameUrl(), "1 of 2 documents have no url", False),
    (ImageSet(), "1 of 2 documents have no url", False),
    (Paragraph(), "1 of 2 documents have no url", False),
    (ExactDocument(), "", False),
]


@pytest.mark.parametrize(("rule", "told", "has_remedy"), NOT_KNOWN)
def test_what_a_rule_could_not_compare_is_said(tmp_path, rule, told, has_remedy):
    pictures = [Image("u", sha256="aa", phash=1), Image("v", phash=2), Image("w")]
    corpus = [[document(0, pictures[0], "a")], [document(1, *pictures[1:], "b", url="http://p/1")], []]
    docs = write_documents(tmp_path / "in", corpus)
    notes = deduplicate(docs, tmp_path / "out", [rule], Engine()).notes
    assert len(notes) == bool(told)
    for note in notes:
        assert note.startswith(f"{members.key(rule)}: {told} and were compared with nothing")
        assert ("lcl filter DOCS OUT --images STORE" in note) == has_remedy


def corpus_of(shards_, size, seed=1):
    rng = random.Random(seed)

    def some(number):
        picture = Image(f"u{rng.randrange(99)}", sha256=rng.choice([None, "aa", "bb", "cc"]))
        return document(
            number, rng.choice("abcdefgh") * 3, picture, picture, url=rng.choice([None, "p", "q", "r"])
        )

    return [[some(100 * shard + n) for n in range(size)] for shard in range(shards_)]


RUN = """
import sys
from pathlib import Path
from lcl_data.dedupe.same_image_bytes import SameImageBytes
from lcl_data.dedupe.same_url import SameUrl
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
docs, out = map(Path, sys.argv[1:])
deduplicate(docs, out, (SameUrl(), SameImageBytes(scope="corpus")), Engine())
"""


def test_workers_do_not_change_a_byte(tmp_path):
    docs = write_documents(tmp_path / "in", corpus_of(4, 20))
    one = deduplicate(docs, tmp_path / "one", (SameUrl(),), Engine())
    assert deduplicate(docs, tmp_path / "two", (SameUrl(),), Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


def test_kills_do_not_change_a_byte(tmp_path):
    docs = write_documents(tmp_path / "in", corpus_of(12, 20))
    rules = (SameUrl(), SameImageBytes(scope="corpus"))
    calm = deduplicate(docs, tmp_path / "calm", rules, Engine())
    assert calm.ledger.documents.rejected["same_url"] > 0
    assert calm.ledger.images.rejected["same_image_bytes"] > 0
    out = tmp_path / "out"
    for marks in ("exchange/01*/keys/00006", "00006.parquet"):
        run = subprocess.Popen([sys.executable, "-c", RUN, docs, out])
        while run.poll() is None and not list(out.glob(marks)):
            time.sleep(0.002)
        run.kill()
        run.wait()
    assert deduplicate(docs, out, rules, Engine()) == calm
    assert bytes_of(out) == bytes_of(tmp_path / "calm")
    assert not (out / "exchange").exists()


@pytest.mark.parametrize("name", members.names("lcl_data.dedupe"))
def test_every_rule_is_what_its_file_says_and_has_defaults(tmp_path, name):
    """Only what is compared with must be named; and all that is looked at is read."""
    (tmp_path / "tests.txt").write_text(f"a test of {PROSE}")
    (tmp_path / "test.jpg").write_bytes(picture(0))
    settings = {"against": tmp_path} if name.startswith("decontaminate") else {}
    rule = members.build("lcl_data.dedupe", {name: settings}, Rule)
    assert members.key(rule) == name
    corpus = [document(0, f"A test of {PROSE}", Image("http://h/1"), "end", url="http://p/1"), document(1)]
    (unit,) = document_units(write_documents(tmp_path / "in", [corpus]))
    (whole,), (read,) = read_frames(unit), read_frames(unit, rule.reads)
    if rule.reads:
        assert rule.keys(read).equals(rule.keys(whole))
        assert rule.keys(read).height > 0


def test_anchors_stay_when_images_go(tmp_path):
    picture = Image("u", sha256="aa", anchor=0)
    corpus = [[document(0, picture, "a", picture._replace(anchor=1), "b")]]
    (only,), _ = kept(tmp_path, corpus, SameImageBytes())
    assert only.items == (picture, "a", "b")
