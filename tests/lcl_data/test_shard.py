import gc
import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import time
import warnings
from contextlib import suppress
from functools import partial
from multiprocessing import forkserver, get_context

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from PIL import Image as Pillow

from lcl_data import engine
from lcl_data.engine import Engine
from lcl_data.files import sha256
from lcl_data.shard import Shard, shard
from lcl_data.shards import Shards
from lcl_data.tokenizer import train
from lcl_data.verify import verify
from schemas.documents import Document, Image, document_id
from schemas.errors import ShardError
from schemas.manifest import read_manifest
from tests.lcl_data.sharding import make_corpus, make_documents, make_store, picture


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(["the quick brown fox jumps", "naïve Größe 東京"], 300, path)
    return Shard(tokenizer=str(path), max_tokens=64, image_slots=10)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def made(corpus, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "shards"
    shard(*corpus, out, settings, Engine())
    return out


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_webdataset(urls, *decoders):
    """All samples; webdataset leaves its files to the garbage collector, which says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode(*decoders))
        gc.collect()
    return samples


def equal(a, b):
    plain = ("id", "image_keys", "anchors", "source", "url")
    return (
        all(getattr(a, name) == getattr(b, name) for name in plain)
        and np.array_equal(a.tokens, b.tokens)
        and [bytes(image) for image in a.images] == [bytes(image) for image in b.images]
    )


def test_the_ledger_balances_and_names_what_is_missing(corpus, made):
    before, after = read_manifest(corpus[0]).ledger, read_manifest(made).ledger
    assert after.documents.read == before.documents.kept == 24
    assert after.images.read == before.images.kept
    assert after.documents.balances
    assert after.images.balances
    assert after.images.rejected["image_missing"] > 0
    assert after.images.kept == Shards(made).image_counts.sum()


def test_both_containers_hold_equal_rows(made):
    arrow, tar = Shards(made, "arrow"), Shards(made, "webdataset")
    assert len(arrow) == len(tar) > 24
    assert arrow.special_tokens == tar.special_tokens
    assert arrow.lengths.tolist() == tar.lengths.tolist() == [len(row.tokens) for row in arrow]
    assert arrow.image_counts.tolist() == tar.image_counts.tolist() == [len(row.images) for row in tar]
    for number in random.Random(0).sample(range(len(arrow)), len(arrow)):
        assert equal(arrow[number], tar[number])
    assert any(span for row in arrow for span in row.anchors)
    assert any(span is None for row in arrow for span in row.anchors)


def test_plain_webdataset_reads_order_and_bytes(made):
    urls = [str(path) for path in sorted(made.glob("*.tar"))]
    samples = read_webdataset(urls)
    rows = list(Shards(made, "arrow"))
    assert [sample["__key__"] for sample in samples] == [row.id for row in rows]
    for sample, row in zip(samples, rows, strict=True):
        record = sample["json"]
        names = [name for name in record["images"] if name]
        assert [sample[name] for name in names] == [bytes(image) for image in row.images]
        assert [
            (text is None) != (name is None)
            for text, name in zip(record["texts"], record["images"], strict=True)
        ]
        assert names == [f"{number}.jpg" for number in range(len(names))]


def test_tar_headers_say_nothing_of_this_machine(made):
    with tarfile.open(made / "00000.tar") as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    keys = [member.name.split(".")[0] for member in members]
    seen = [key for number, key in enumerate(keys) if number == 0 or key != keys[number - 1]]
    assert len(seen) == len(set(seen))  # the members of a sample lie side by side


ENERGON = """
import json, sys, warnings
warnings.simplefilter("ignore")
from megatron.energon import DefaultTaskEncoder, WorkerConfig, get_loader, get_train_dataset
here = WorkerConfig(rank=0, world_size=1, num_workers=0)
whole = dict(batch_size=None, shuffle_buffer_size=None, max_samples_per_sequence=None, repeat=False)
dataset = get_train_dataset(sys.argv[1], worker_config=here, task_encoder=DefaultTaskEncoder(), **whole)
for sample in get_loader(dataset):
    kinds = [item if isinstance(item, str) else list(item.shape) for item in sample.sequence]
    print(json.dumps([sample.__key__, kinds]))
"""


@pytest.mark.slow
def test_energon_itself_reads_every_sample_by_the_sidecar(made):
    found = subprocess.run([sys.executable, "-c", ENERGON, made], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    samples = dict(map(json.loads, found.stdout.splitlines()))
    expected = read_webdataset([str(path) for path in sorted(made.glob("*.tar"))])
    assert samples.keys() == {sample["__key__"] for sample in expected}
    for sample in expected:
        texts = sample["json"]["texts"]
        read = samples[sample["__key__"]]
        assert [item if isinstance(item, str) else None for item in read] == texts
        assert all(item == [3, 16, 16] for item in read if not isinstance(item, str))


def test_the_tars_index_points_at_samples(made):
    content = (made / "00000.tar").read_bytes()
    offsets = np.frombuffer((made / "00000.tar.idx").read_bytes(), "<u8").tolist()
    with tarfile.open(made / "00000.tar") as tar:
        starts = [member.offset for member in tar if member.name.endswith(".json")]
    assert offsets[:-1] == starts
    assert not any(content[offsets[-1] :])


def test_the_cards_tell_what_is_there(made):
    card = json.loads((made / "croissant.json").read_text())
    assert card["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    files = {file["@id"]: file for file in card["distribution"] if file["@type"] == "cr:FileObject"}
    assert set(files) == {path.name for path in made.iterdir() if path.suffix in (".arrow", ".tar")}
    assert all(file["sha256"] == sha256(made / name) for name, file in files.items())
    (records,) = card["recordSet"]
    assert {field["name"] for field in records["field"]} == {"id", "tokens", "image_keys", "source", "url"}
    text = (made / "README.md").read_text()
    assert f"{len(Shards(made)):,}" in text
    assert "| made | not stated |" in text


def test_pictures_are_views_of_the_mapped_file(made):
    row = next(row for row in Shards(made, "arrow") if row.images)
    image = row.images[0]
    assert isinstance(image, memoryview)
    assert image.readonly
    assert Pillow.open(io.BytesIO(image)).size == (16, 16)
    with pa.memory_map(str(made / "00000.arrow")) as file:
        assert pa.ipc.open_file(file).read_all().schema.metadata[b"lcl.schema"] == b"sequences/1"


def test_four_workers_write_the_bytes_of_one(corpus, settings, made, tmp_path):
    shard(*corpus, tmp_path / "four", settings, Engine(workers=4))
    assert tree(tmp_path / "four") == tree(made)


def test_a_finished_folder_is_left_alone_and_its_companions_mended(corpus, settings, tmp_path):
    out = tmp_path / "out"
    shard(*corpus, out, settings, Engine())
    before, stamp = tree(out), (out / "00000.tar").stat().st_mtime_ns
    (out / "README.md").unlink()
    (out / ".nv-meta" / ".info.json").unlink()
    shard(*corpus, out, settings, Engine())
    assert tree(out) == before
    assert (out / "00000.tar").stat().st_mtime_ns == stamp


def test_other_containers_replace_the_old_files(corpus, settings, tmp_path):
    out = tmp_path / "out"
    shard(*corpus, out, settings, Engine())
    shard(*corpus, out, settings.model_copy(update={"containers": ("arrow",)}), Engine())
    assert not [*out.glob("*.tar*"), *(out / ".nv-meta").glob("*")]
    assert Shards(out).special_tokens == Shards(out, "arrow").special_tokens
    with pytest.raises(ShardError, match="no webdataset shards"):
        Shards(out, "webdataset")


def test_the_tokenizers_content_counts_not_its_place(corpus, settings, made, tmp_path):
    moved = tmp_path / "elsewhere" / "tokenizer.json"
    moved.parent.mkdir()
    moved.write_bytes((made / "tokenizer.json").read_bytes())
    out = tmp_path / "out"
    shard(*corpus, out, settings.model_copy(update={"tokenizer": str(moved)}), Engine())
    assert tree(out) == tree(made)


def test_a_torn_document_shard_fails_alone(settings, tmp_path):
    docs, store = make_corpus(tmp_path)
    torn = docs / "00001.parquet"
    torn.write_bytes(torn.read_bytes()[:-100])
    manifest = shard(docs, store, tmp_path / "out", settings, Engine())
    assert list(manifest.failed) == ["00001.parquet"]
    assert len(Shards(tmp_path / "out").paths) == 2


def test_a_picture_that_is_no_longer_the_one_attached_is_rejected(settings, tmp_path):
    first, second = picture(1), picture(2)
    keys = make_store(tmp_path / "store", [first, second])
    attached = [Image("http://x/1", key=keys[0], sha256=sha256_of(first))]
    attached.append(Image("http://x/2", key=keys[1], sha256=sha256_of(b"what lay there before")))
    document = Document(document_id("made", "0", 0), "made", (attached[0], "a fox", attached[1]))
    make_documents(tmp_path / "docs", [[document]])
    manifest = shard(tmp_path / "docs", tmp_path / "store", tmp_path / "out", settings, Engine())
    assert manifest.ledger.images.kept == 1 and manifest.ledger.images.rejected == {"image_changed": 1}
    (row,) = Shards(tmp_path / "out")
    assert [bytes(image) for image in row.images] == [first]
    assert not verify(tmp_path / "out").problems


def sha256_of(content):
    return hashlib.sha256(content).hexdigest()


def test_settings_that_hold_no_picture_are_refused():
    with pytest.raises(ValueError, match="at least 68"):
        Shard(max_tokens=67, image_slots=66)


def test_killed_at_ten_random_moments_it_ends_with_the_same_bytes(settings, tmp_path):
    corpus = make_corpus(tmp_path, shards=40, rows=6)
    shard(*corpus, tmp_path / "calm", settings, Engine())
    engine._pool.cache_clear()  # no worker of an earlier test keeps the server alive
    forkserver._forkserver._stop()  # that has imported other things
    context = get_context("forkserver")
    # The imports once, not eleven times; the last two are pyarrow's own, made when first needed.
    context.set_forkserver_preload(["lcl_data.shard", "pyarrow.dataset", "pandas"])
    work = partial(shard, *corpus, tmp_path / "killed", settings, Engine())
    draw, progress, kills = random.Random(7), [], 0
    while kills < 10:
        process = context.Process(target=work)
        process.start()
        wait_for_work(tmp_path / "killed", process)
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        process.join()
        assert process.exitcode in (-9, 0)
        if process.exitcode == 0:  # it was done before the blow: begin again with half of the shards
            for path in sorted((tmp_path / "killed").glob("000[02]*")):
                path.unlink()
            (tmp_path / "killed" / "manifest.json").unlink()
        kills += process.exitcode == -9
        progress.append(len(list((tmp_path / "killed").glob("*.arrow"))))
    assert len(set(progress)) > 3  # the blows fell at different moments of the work
    work()
    assert tree(tmp_path / "killed") == tree(tmp_path / "calm")


def wait_for_work(out, process):
    """Until the process writes: a file of its own appears, whatever earlier ones left."""
    before = time.time_ns()
    while process.is_alive():
        if any(entry > before for entry in times(out)):
            return
        time.sleep(0.002)


def times(out):
    """When the files of a folder were written, of those that stay while one looks."""
    for path in out.glob("*"):
        with suppress(FileNotFoundError):
            yield path.lstat().st_mtime_ns
