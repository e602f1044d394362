"""A store whose list of URLs changes: what is taken over is right, and nothing is fetched that is known."""

import random
from collections import Counter

import pytest

from lcl_data.download import download
from lcl_data.engine import Engine
from tests.lcl_data.loopback import running
from tests.lcl_data.stores import SETTINGS, contents, rows, serve_pictures, write_docs


@pytest.fixture
def server():
    with running() as loopback:
        yield loopback


class Blow(Exception):
    """Ends a run in the middle."""


def killed_after(pictures):
    """An engine whose run ends when so many pictures have an outcome."""

    def progress(stage, done, total):
        if stage == "download" and done >= pictures:
            raise Blow

    return Engine(1, progress)


def small(settings, side):
    return settings.model_copy(update={"picture": settings.picture.model_copy(update={"short_side": side})})


def by_shards_of(count):
    return SETTINGS.model_copy(update={"images_per_shard": count})


def test_a_changed_list_of_urls_costs_only_what_is_added(server, tmp_path):
    urls = serve_pictures(server, 45)
    gone, store = server.url("/gone.jpg"), tmp_path / "store"
    download(write_docs(tmp_path / "first", [*urls[:30], gone]), store, SETTINGS, Engine(1))
    before = Counter(server.counts)
    docs = write_docs(tmp_path / "second", [*urls[10:], gone])
    manifest = download(docs, store, SETTINGS, Engine(1))
    assert server.counts - before == {f"/{n}.jpg": 1 for n in range(30, 45)}
    assert (manifest.ledger.images.kept, manifest.ledger.images.rejected) == (35, {"http_404": 1})
    download(docs, tmp_path / "fresh", SETTINGS, Engine(2))
    assert contents(store) == contents(tmp_path / "fresh")


def test_documents_that_change_and_point_at_the_same_pictures_cost_nothing(server, tmp_path):
    urls = serve_pictures(server, 30)
    first = download(write_docs(tmp_path / "first", urls), tmp_path / "store", SETTINGS, Engine(1))
    before = Counter(server.counts)
    docs = write_docs(tmp_path / "second", urls, per_document=5)
    second = download(docs, tmp_path / "store", SETTINGS, Engine(1))
    assert server.counts == before and second.shards == first.shards
    assert second.ledger.documents.kept == 6 and second.inputs != first.inputs


def test_other_pixels_are_not_taken_over(server, tmp_path):
    docs = write_docs(tmp_path / "docs", serve_pictures(server, 12))
    download(docs, tmp_path / "store", SETTINGS, Engine(1))
    small = SETTINGS.model_copy(update={"picture": SETTINGS.picture.model_copy(update={"short_side": 20})})
    download(docs, tmp_path / "store", small, Engine(1))
    assert set(server.counts.values()) == {2}
    assert {row["width"] for row in rows(tmp_path / "store").values()} == {20}


def test_a_shard_killed_between_table_and_tar_is_not_taken_at_its_word(server, tmp_path):
    urls = serve_pictures(server, 24)
    store = tmp_path / "store"
    download(write_docs(tmp_path / "first", urls), store, SETTINGS, Engine(1))
    (store / "manifest.json").unlink()
    for name in ("00000", "00001"):  # the tar of a neighbour, as long as another list's would be
        (store / f"{name}.tar").write_bytes((store / "00002.tar").read_bytes())
    docs = write_docs(tmp_path / "second", urls[1:])
    download(docs, store, SETTINGS, Engine(1))
    download(docs, tmp_path / "fresh", SETTINGS, Engine(1))
    assert contents(store) == contents(tmp_path / "fresh")


def test_what_a_killed_run_set_aside_is_not_taken_over_under_other_settings(server, tmp_path):
    urls = serve_pictures(server, 60)
    store = tmp_path / "store"
    download(write_docs(tmp_path / "first", urls[:40]), store, SETTINGS, Engine(1))
    docs = write_docs(tmp_path / "second", urls)
    with pytest.raises(Blow):
        download(docs, store, SETTINGS, killed_after(16))
    download(docs, store, small(SETTINGS, 20), Engine(1))
    download(docs, tmp_path / "fresh", small(SETTINGS, 20), Engine(1))
    assert contents(store) == contents(tmp_path / "fresh")


def test_shards_of_another_size_do_not_mix_with_what_a_killed_run_set_aside(server, tmp_path):
    urls = serve_pictures(server, 60)
    store = tmp_path / "store"
    download(write_docs(tmp_path / "first", urls[:40]), store, SETTINGS, Engine(1))
    docs = write_docs(tmp_path / "second", urls)
    with pytest.raises(Blow):
        download(docs, store, SETTINGS, killed_after(16))
    download(docs, store, by_shards_of(20), Engine(1))
    download(docs, tmp_path / "fresh", by_shards_of(20), Engine(1))
    assert contents(store) == contents(tmp_path / "fresh")


def test_a_torn_table_is_fetched_again(server, tmp_path):
    docs = write_docs(tmp_path / "docs", serve_pictures(server, 24))
    store = tmp_path / "store"
    download(docs, store, SETTINGS, Engine(1))
    whole, before = contents(store), Counter(server.counts)
    (store / "00001.parquet").write_bytes((store / "00001.parquet").read_bytes()[:-50])
    download(docs, store, SETTINGS, Engine(1))
    assert contents(store) == whole
    assert (server.counts - before).total() == 10


def test_whatever_lists_and_kills_came_before_the_store_is_as_if_made_at_once(server, tmp_path):
    urls, draw = serve_pictures(server, 90), random.Random(3)
    lists = [write_docs(tmp_path / f"docs{n}", draw.sample(urls, draw.randint(30, 90))) for n in range(4)]
    kinds = [SETTINGS.model_copy(update={"in_hand": 1}), small(SETTINGS, 20), by_shards_of(20)]
    store, last = tmp_path / "store", None
    for _ in range(14):
        last = draw.choice(lists), draw.choice([SETTINGS, *kinds])
        retry = draw.random() < 0.3
        try:
            download(last[0], store, last[1], killed_after(draw.randint(0, 120)), retry_failed=retry)
        except Blow:
            continue
    download(*last[:1], store, last[1], Engine(1))
    download(*last[:1], tmp_path / "fresh", last[1], Engine(1))
    assert contents(store) == contents(tmp_path / "fresh")


def test_what_a_run_killed_after_its_manifest_left_is_cleared_away(server, tmp_path):
    docs, store = write_docs(tmp_path / "docs", serve_pictures(server, 3)), tmp_path / "store"
    first = download(docs, store, SETTINGS, Engine(1))
    before = contents(store)
    for leftover in (store / "exchange" / "urls-0" / "keys", store / "previous" / "00000"):
        leftover.mkdir(parents=True)
        (leftover / "00000.parquet").write_bytes(b"x")
    assert download(docs, store, SETTINGS, Engine(1)) == first
    assert contents(store) == before
