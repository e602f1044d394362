"""Near-duplicate documents: what is found, what is measured, and that the whole corpus is seen."""

import random
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcl_data.dedupe import sharing
from lcl_data.dedupe.near_document import NearDocument
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from lcl_data.frames import flatten
from lcl_data.neighbours import components, leaders
from lcl_data.shingles import ngrams, words
from schemas.documents import Image, to_table
from tests.lcl_data.corpus import bytes_of, document, read_documents, rejects, write_documents

VOCABULARY = [f"word{number}" for number in range(3000)]


def prose(rng, size=300):
    return rng.choices(VOCABULARY, k=size)


def edited(rng, text, share):
    return [rng.choice(VOCABULARY) if rng.random() < share else word for word in text]


def jaccard(one, two, size=5):
    sets = [{tuple(text[i : i + size]) for i in range(len(text) - size + 1)} for text in (one, two)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def decisions(tmp_path, corpus, rule=None, engine=None):
    """The decisions over a corpus of (shards of) documents, and the ids kept."""
    docs = write_documents(tmp_path / "in", corpus)
    deduplicate(docs, tmp_path / "out", [rule or NearDocument()], engine or Engine())
    table = pl.read_parquet(tmp_path / "out/decisions/00_near_document.parquet")
    return table, [each.id for each in read_documents(tmp_path / "out")]


def of(shards_, size, seed=1):
    """Shards of documents of which every third is an edited copy of one before it."""
    rng, texts, made = random.Random(seed), [], []
    for number in range(shards_ * size):
        copied = texts and number % 3 == 0
        texts.append(edited(rng, rng.choice(texts), 0.01) if copied else prose(rng))
        made.append(document(number, " ".join(texts[-1])))
    return [made[at : at + size] for at in range(0, len(made), size)]


def test_edited_copies_go_and_overlaps_stay(tmp_path):
    rng = random.Random(0)
    pages = [prose(rng) for _ in range(40)]
    copies = [edited(rng, page, 0.012) for page in pages[:20]]
    overlaps = [page[::1][:100] + prose(rng, 200) for page in pages[20:]]
    every = [document(row, " ".join(text)) for row, text in enumerate(pages + copies + overlaps)]
    table, kept = decisions(tmp_path, [every[:30], every[30:]])
    assert kept == [each.id for each in every[:40] + every[60:]]
    assert table["kept_id"].to_list() == [each.id for each in every[:20]]
    exact = [jaccard(*pair) for pair in zip(pages, copies, strict=False)]
    assert table["similarity"].to_numpy() == pytest.approx(exact, abs=1e-6)


def test_case_punctuation_items_and_pictures_do_not_count(tmp_path):
    corpus = [[document(0, "One two, three", Image("http://h/1"), "four five six.", "Seven")]]
    corpus += [
        [document(1, Image("http://h/2"), "ONE\u2014two three\u3000four \u201cfive\u201d six", "seven")]
    ]
    table, kept = decisions(tmp_path, corpus)
    assert kept == [corpus[0][0].id]
    assert table["similarity"].to_list() == [1.0]
    assert [(row["reason"], row["detail"]) for row in rejects(tmp_path / "out")] == [
        ("near_document", f"kept {corpus[0][0].id}"),
        ("document_rejected", None),
    ]


def test_what_is_too_short_to_compare_stays(tmp_path):
    corpus = [
        [document(0, "four words of text"), document(1, "four words of text"), document(2), document(3)]
    ]
    assert decisions(tmp_path, corpus)[1] == [each.id for each in corpus[0]]


def test_copies_of_copies_are_one_set_whose_first_stays(tmp_path):
    rng = random.Random(3)
    chain = [prose(rng)]
    for _ in range(6):
        chain.append(edited(rng, chain[-1], 0.02))
    assert jaccard(chain[0], chain[-1]) < 0.7
    corpus = [[document(row, " ".join(text))] for row, text in enumerate(chain)]
    table, kept = decisions(tmp_path, corpus)
    assert kept == [corpus[0][0].id]
    assert set(table["kept"]) == {0}
    told, exact = table["similarity"].to_list(), [jaccard(chain[0], text) for text in chain[1:]]
    alike = [(similarity, least) for similarity, least in zip(told, exact, strict=True) if least > 0.8]
    assert 1 <= len(alike) < len(told)
    for similarity, least in alike:  # to the one that stays, not to its neighbour in the chain
        assert similarity == pytest.approx(least, abs=1e-6)
    assert min(told) >= 0.7


def test_a_band_that_everybody_shares_costs_no_square(tmp_path):
    """4,000 pages of one template, and the copies among them are found all the same."""
    rng = random.Random(5)
    template = prose(rng, 60)
    pages = [template + prose(rng, 60) for _ in range(3990)]
    pages += [[*page[:-1], "edited"] for page in pages[:10]]
    every = [document(row, " ".join(text)) for row, text in enumerate(pages)]
    rule = NearDocument(rows=2)
    keys = rule.keys(flatten(to_table(every).combine_chunks().to_batches()[0], 0))
    shared = keys["key"].value_counts()["count"]
    assert shared.max() > 1000
    assert len(sharing(keys)) <= sum(size * min(7, size - 1) // 2 for size in shared)
    table, _ = decisions(tmp_path, [every], rule)
    assert table["document"].to_list() == list(range(3990, 4000))


def test_workers_do_not_change_a_byte(tmp_path):
    docs = write_documents(tmp_path / "in", of(4, 20))
    one = deduplicate(docs, tmp_path / "one", (NearDocument(),), Engine())
    assert one.ledger.documents.rejected["near_document"] > 20
    assert deduplicate(docs, tmp_path / "two", (NearDocument(),), Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


RUN = """
import sys
from pathlib import Path
from lcl_data.dedupe import sharing
from lcl_data.dedupe.near_document import NearDocument
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
docs, out = map(Path, sys.argv[1:])
deduplicate(docs, out, (NearDocument(),), Engine())
"""


def test_kills_in_each_step_do_not_change_a_byte(tmp_path):
    docs = write_documents(tmp_path / "in", of(12, 10))
    calm = deduplicate(docs, tmp_path / "calm", (NearDocument(),), Engine())
    out = tmp_path / "out"
    for marks in ("exchange/*.pairs-*/keys/00003", "exchange/*.verify-*/keys/00003", "exchange/*.settle-*"):
        run = subprocess.Popen([sys.executable, "-c", RUN, docs, out])
        while run.poll() is None and not list(out.glob(marks)):
            time.sleep(0.001)
        run.kill()
        run.wait()
    assert deduplicate(docs, out, (NearDocument(),), Engine()) == calm
    assert bytes_of(out) == bytes_of(tmp_path / "calm")


def test_hashes_never_change():
    """Bands of one corpus may be compared years apart: neither our hashes nor rensa's may move."""
    rule = NearDocument(bands=2, rows=2)
    hashed = words(pl.Series(["The quick brown fox jumps over", "l\u00e9zard"]))
    assert hashed.ends.tolist() == [6, 7]
    assert hashed.values[[0, 6]].tolist() == [10011348201963036907, 9046302356873162655]
    assert rule._bands(ngrams(hashed, 5)).tolist()[0] == [17988572912345940944, 14021309175804613074]


def test_capitals_that_composing_makes_are_lower_case_too():
    texts = pl.Series(["e\u0301 \u2121 \U0001d400", "\u00e9 tel a"])
    first, second = np.split(words(texts).values, 2)
    assert first.tolist() == second.tolist()


@given(st.lists(st.text("ab \u00e9\u6771\u4eac\u0301.\n\u201c", max_size=12), max_size=5))
def test_a_text_has_the_same_hashes_whatever_stands_beside_it(texts):
    together = words(pl.Series(texts, dtype=pl.String))
    parts = np.split(together.values, together.ends[:-1]) if texts else []
    for text, part in zip(texts, parts, strict=True):
        assert words(pl.Series([text])).values.tolist() == part.tolist()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_components_are_those_of_a_walk(edges):
    first, second = np.array(edges, np.int64).reshape(-1, 2).T
    lowest = list(range(31))
    for _ in lowest:
        for one, two in edges:
            lowest[one] = lowest[two] = min(lowest[one], lowest[two])
    assert components(first, second, 31).tolist() == lowest


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_leaders_are_linked_to_what_they_lead_and_to_no_lower_leader(edges):
    first, second = np.array(edges, np.int64).reshape(-1, 2).T
    kept = leaders(first, second, 31).tolist()
    linked = {frozenset(edge) for edge in edges}
    for one, leader in enumerate(kept):
        lower = [other for other in range(one) if kept[other] == other and {one, other} in linked]
        assert leader == min(lower, default=one)
