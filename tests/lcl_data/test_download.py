"""`lcl download` as a whole, against a real server: ledger, resumption, retries, and equal bytes."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pixels

from lcl_data.download import Download, download
from lcl_data.engine import Engine
from lcl_data.store import facts, read_pictures
from schemas.errors import RecipeError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import document, rejects, write_documents
from tests.lcl_data.loopback import Answer, running
from tests.lcl_data.stores import SETTINGS, contents, picture, rows, serve_pictures, write_docs
from tests.lcl_data.test_pictures import drawing, encoded


@pytest.fixture
def server():
    with running() as loopback:
        yield loopback


def test_every_distinct_url_is_fetched_once_and_counted_as_often_as_it_is_used(server, tmp_path):
    good = serve_pictures(server, 12)
    bad = server.url("/gone.jpg")
    docs = write_docs(tmp_path / "docs", [*good, *good[:5], bad, bad])
    manifest = download(docs, tmp_path / "store", SETTINGS, Engine(1))
    assert set(server.counts.values()) == {1}
    images, documents = manifest.ledger.images, manifest.ledger.documents
    assert (images.read, images.kept, images.rejected) == (19, 17, {"http_404": 2})
    assert documents.read == documents.kept == 7 and images.balances
    (reject,) = rejects(tmp_path / "store")
    assert (reject["reason"], reject["url"], reject["count"]) == ("http_404", bad, 2)
    assert rows(tmp_path / "store")[good[0]]["references"] == 2


def test_every_outcome_is_a_row(server, tmp_path):
    noai = Answer(picture(2), headers={"X-Robots-Tag": "noai"})
    expected = {
        server.serve("/good.jpg", Answer(picture(1, side=300))): None,
        server.serve("/noai.jpg", noai): "opted_out",
        server.serve("/page.jpg", Answer(b"<html>sorry</html>")): "not_an_image",
        server.serve("/empty.jpg", Answer(b"")): "empty",
        server.serve("/cut.jpg", Answer(picture(3)[:400])): "truncated",
        server.serve("/503.jpg", Answer(status=503)): "http_503",
        server.url("/404.jpg"): "http_404",
        "file:///etc/hostname": "bad_scheme",
        "data:image/png;base64,AA==": "bad_scheme",
        "http://no-such-host.invalid/a.jpg": "dns",
    }
    docs = write_docs(tmp_path / "docs", list(expected))
    manifest = download(docs, tmp_path / "store", SETTINGS, Engine(1))
    found = rows(tmp_path / "store")
    assert {url: row["reason"] for url, row in found.items()} == expected
    status = {"success": 1, "failed_to_download": 6, "failed_to_resize": 3}
    assert Counter(row["status"] for row in found.values()) == status
    assert manifest.ledger.images.rejected == Counter(filter(None, expected.values()))
    stats = json.loads((tmp_path / "store" / "00000_stats.json").read_text())
    assert (stats["count"], stats["successes"], stats["status_dict"]["opted_out"]) == (10, 1, 1)


def test_pictures_of_every_kind_are_stored_as_they_look(server, tmp_path):
    colours, exif = drawing(120, 90), Pixels.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    ramp = np.linspace(0, 65535, 120 * 90).astype(np.uint16).reshape(90, 120)
    half = colours.copy().convert("RGBA")
    half.putalpha(Pixels.fromarray(np.repeat([[0, 255]], 60, axis=1).repeat(90, axis=0).astype(np.uint8)))
    palette = half.quantize(64)
    white = Pixels.new("RGB", half.size, "white")
    white.paste(colours.crop((60, 0, 120, 90)), (60, 0))
    moving = {"save_all": True, "append_images": [Pixels.new("RGB", colours.size)], "duration": 50}
    kinds = {
        "cmyk.jpg": (encoded(colours.convert("CMYK"), quality=95), colours),
        "sixteen.png": (
            encoded(Pixels.fromarray(ramp), "PNG"),
            Pixels.fromarray((ramp >> 8).astype(np.uint8)),
        ),
        "palette.png": (encoded(palette, "PNG"), white),
        "turned.jpg": (encoded(colours, quality=95, exif=exif), colours.rotate(-90, expand=True)),
        "moving.gif": (encoded(colours, "GIF", **moving), colours),
        "moving.webp": (encoded(colours, "WEBP", quality=95, **moving), colours),
    }
    urls = {server.serve(f"/{name}", Answer(sent)): look for name, (sent, look) in kinds.items()}
    bomb = server.serve("/bomb.png", Answer(encoded(Pixels.new("1", (9000, 9000)), "PNG")))
    download(write_docs(tmp_path / "docs", [*urls, bomb]), tmp_path / "store", SETTINGS, Engine(1))
    found = rows(tmp_path / "store")
    assert found.pop(bomb)["reason"] == "too_many_pixels"
    stored = read_pictures(tmp_path / "store", [row["key"] for row in found.values()])
    for url, look in urls.items():
        row, seen = found[url], Pixels.open(io.BytesIO(stored[found[url]["key"]]))
        assert (row["width"], row["height"]) == seen.size == look.size
        assert row["is_animated"] == ("moving" in url)
        apart = np.asarray(seen.convert("RGB"), int) - np.asarray(look.convert("RGB"), int)
        assert np.abs(apart).mean() < 12, url  # a palette has few colours


def test_private_addresses_are_refused_unless_allowed(server, tmp_path):
    docs = write_docs(tmp_path / "docs", [*serve_pictures(server, 2), server.url("/0.jpg", "localhost")])
    manifest = download(docs, tmp_path / "store", Download(), Engine(1))
    assert manifest.ledger.images.rejected == {"private_address": 3}
    assert not server.counts


def test_the_layout_is_img2datasets(server, tmp_path):
    url = server.serve("/a.png", Answer(picture(5, side=500, form="PNG")))
    docs = write_docs(tmp_path / "docs", [url])
    download(docs, tmp_path / "store", Download(fetch=SETTINGS.fetch), Engine(1))
    row = rows(tmp_path / "store")[url]
    assert row["key"] == "000000000"
    with tarfile.open(tmp_path / "store" / "00000.tar") as tar:
        assert tar.getnames() == ["000000000.jpg", "000000000.json"]
        jpeg = tar.extractfile("000000000.jpg").read()
        told = json.loads(tar.extractfile("000000000.json").read())
    assert (told["url"], told["width"], told["original_width"]) == (url, 256, 500)
    tar = (tmp_path / "store" / "00000.tar").read_bytes()
    assert tar[row["offset"] : row["offset"] + row["nbytes"]] == jpeg
    assert read_pictures(tmp_path / "store", [row["key"]]) == {row["key"]: jpeg}


def test_bytes_depend_neither_on_workers_nor_on_who_answers_first(server, tmp_path):
    urls = serve_pictures(server, 24)
    docs = write_docs(tmp_path / "docs", urls)
    download(docs, tmp_path / "one", SETTINGS, Engine(1))
    for n in range(0, 24, 3):
        server.serve(f"/{n}.jpg", Answer(picture(n), wait_s=0.1))
    download(docs, tmp_path / "two", SETTINGS, Engine(2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (tmp_path / "one" / "00002.tar").exists()


def test_a_slow_host_keeps_few_shards_in_hand_and_changes_no_byte(server, tmp_path):
    urls = serve_pictures(server, 240)
    for n in range(0, 240, 10):  # in about every shard
        urls[n] = server.url(f"/{n}.jpg", "127.0.0.2")
        server.serve(f"/{n}.jpg", Answer(picture(n), wait_s=0.05))
    docs, store = write_docs(tmp_path / "docs", urls), tmp_path / "store"
    polite = SETTINGS.fetch.model_copy(update={"per_host": 1, "concurrency": 8})
    few = SETTINGS.model_copy(update={"fetch": polite, "in_hand": 3})
    with watching(store) as seen:
        download(docs, store, few, Engine(1))
    assert 1 < max(seen) <= 3
    download(docs, tmp_path / "many", SETTINGS, Engine(2))
    assert contents(store) == contents(tmp_path / "many")


@contextmanager
def watching(store):
    """How many shards were in hand, looked at again and again."""
    seen, over = [], threading.Event()

    def watch():
        while not over.wait(0.005):
            seen.append(len(list(store.glob("*.spool"))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_a_finished_store_is_not_fetched_again(server, tmp_path):
    docs = write_docs(tmp_path / "docs", serve_pictures(server, 3))
    first = download(docs, tmp_path / "store", SETTINGS, Engine(1))
    harder = SETTINGS.model_copy(update={"fetch": SETTINGS.fetch.model_copy(update={"concurrency": 3})})
    assert download(docs, tmp_path / "store", harder, Engine(1)) == first
    assert set(server.counts.values()) == {1}


PROGRAM = """
import sys
from pathlib import Path
from lcl_data.download import Download, download
from lcl_data.engine import Engine
download(Path(sys.argv[1]), Path(sys.argv[2]), Download.model_validate_json(sys.argv[3]), Engine(2))
"""


def test_a_killed_run_resumes_at_the_shard_and_ends_in_the_same_bytes(server, tmp_path):
    docs = write_docs(tmp_path / "docs", serve_pictures(server, 120))
    calm, store = tmp_path / "calm", tmp_path / "store"
    download(docs, calm, SETTINGS, Engine(1))
    last = pq.read_table(facts(calm)[-1])["url"].to_pylist()
    stuck = [n for n in range(120) if server.url(f"/{n}.jpg") in last]
    for n in stuck:  # the last shard cannot be finished before the kill, however slow the rest is
        server.serve(f"/{n}.jpg", Answer(picture(n), wait_s=50))
    patient = SETTINGS.model_copy(update={"fetch": SETTINGS.fetch.model_copy(update={"timeout_s": 60})})
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, docs, store, patient.model_dump_json()])
    deadline = time.monotonic() + 60
    while not (store / "00001_stats.json").exists():  # the file that is published last
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    whole = [path for path in facts(store) if path.with_name(f"{path.stem}_stats.json").exists()]
    done = {url for path in whole for url in pq.read_table(path)["url"].to_pylist()}
    assert 20 <= len(done) < 120
    for n in stuck:
        server.serve(f"/{n}.jpg", Answer(picture(n)))
    before = Counter(server.counts)
    download(docs, store, SETTINGS, Engine(1))
    again = server.counts - before
    assert not any(server.url(path) in done for path in again)
    assert sum(again.values()) <= 120 - len(done)
    assert contents(store) == contents(calm)
    deadline = time.monotonic() + 10
    while any(is_alive(child) for child in children):
        assert time.monotonic() < deadline, "decoding processes outlived the killed run"
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # which the system has still to sweep up
    except psutil.NoSuchProcess:
        return False


def test_retry_failed_fetches_only_what_may_have_passed(server, tmp_path):
    good = serve_pictures(server, 15)
    flaky = server.serve("/flaky.jpg", Answer(status=503), Answer(status=503), Answer(picture(77)))
    gone = server.url("/gone.jpg")
    docs = write_docs(tmp_path / "docs", [*good, flaky, flaky, gone])
    store = tmp_path / "store"
    first = download(docs, store, SETTINGS, Engine(1))
    assert first.ledger.images.rejected == {"http_503": 2, "http_404": 1}
    before, untouched = Counter(server.counts), contents(store)
    second = download(docs, store, SETTINGS, Engine(1), retry_failed=True)
    assert server.counts - before == {"/flaky.jpg": 1}
    assert second.ledger.images.rejected == {"http_404": 1} and second.ledger.images.kept == 17
    assert second.ledger.documents == first.ledger.documents
    other = f"{1 - int(rows(store)[flaky]['key'][:5]):05d}.tar"
    assert contents(store)[other] == untouched[other]
    server.serve("/flaky.jpg", Answer(picture(77)))
    download(docs, tmp_path / "fresh", SETTINGS, Engine(1))
    assert contents(tmp_path / "fresh") == contents(store)


def test_a_torn_document_shard_fails_alone_and_costs_nothing_twice_once_it_is_mended(server, tmp_path):
    urls = serve_pictures(server, 30)
    docs, store = write_docs(tmp_path / "docs", urls), tmp_path / "store"
    whole = (docs / "00001.parquet").read_bytes()
    (docs / "00001.parquet").write_bytes(whole[:-100])
    torn = download(docs, store, SETTINGS, Engine(1))
    assert list(torn.failed) == ["00001.parquet"] and "again" in torn.failed["00001.parquet"]
    assert torn.ledger.images.kept == 15 and torn.ledger.documents.kept == 5
    (docs / "00001.parquet").write_bytes(whole)
    mended = download(docs, store, SETTINGS, Engine(1))
    assert not mended.failed and mended.ledger.images.kept == 30
    assert set(server.counts.values()) == {1}
    download(docs, tmp_path / "fresh", SETTINGS, Engine(4))
    assert contents(store) == contents(tmp_path / "fresh")


def test_progress_is_told_in_pictures(server, tmp_path):
    docs = write_docs(tmp_path / "docs", [*serve_pictures(server, 40), server.url("/gone.jpg")])
    told = []
    engine = Engine(2, lambda name, *counts: told.append(counts) if name == "download" else None)
    download(docs, tmp_path / "store", SETTINGS, engine)
    assert len(told) > 1 and told[-1] == (41, 41) and told == sorted(told)


def test_documents_without_images_make_an_empty_store(tmp_path):
    docs = write_documents(tmp_path / "docs", [[document(0, "only text")]])
    manifest = download(docs, tmp_path / "store", SETTINGS, Engine(1))
    assert manifest.ledger.documents.kept == 1 and manifest.ledger.images.read == 0
    assert read_manifest(tmp_path / "store") == manifest


def test_a_folder_of_something_else_is_not_written_into(tmp_path):
    docs = write_documents(tmp_path / "docs", [[document(0, "only text")]])
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("mine")
    with pytest.raises(RecipeError, match=r"thesis\.tex"):
        download(docs, tmp_path / "store", SETTINGS, Engine(1))
