import io
import json
import multiprocessing.reduction as wire
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from lcl_data import shards as shards_module
from lcl_data.containers import ArrowWriter, WebdatasetWriter
from lcl_data.sequence import Row
from lcl_data.shards import Sequence, Shards, SpecialTokens
from schemas.errors import ShardError
from schemas.sequences import SEQUENCES
from schemas.versions import stamp

SPECIAL = SpecialTokens(sot=10, eot=11, image=12, boi=13, eoi=14, pad=15, vocab_size=16)


def row(number, images=1):
    pictures = [bytes([number, k]) * (number + 1) for k in range(images)]
    anchors = [(1, 2) if k % 2 else None for k in range(images)]
    tokens = np.array([10, *[1] * number, *[12] * images, 11], np.int32)
    keys = [f"{number:x}{k:02x}" for k in range(images)]
    sequence = Sequence(f"id{number}", tokens, pictures, keys, anchors, "made", None)
    return Row(sequence, ["text", *[None] * images], [None] * images)


def write(folder, name="00000", rows=(), special=SPECIAL):
    folder.mkdir(exist_ok=True)
    writers = [
        ArrowWriter(folder / f"{name}.arrow", special),
        WebdatasetWriter(folder / f"{name}.tar", folder / f"{name}.tar.idx", special),
    ]
    for writer in writers:
        for item in rows:
            writer.write(item)
        writer.close()
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two folders: shards of 600 (several batches), 0 and 3 rows; then of 5."""
    root = tmp_path_factory.mktemp("two")
    write(root / "a", "00000", [row(n % 97, n % 4) for n in range(600)])
    write(root / "a", "00001")
    write(root / "a", "00002", [row(n) for n in range(3)])
    write(root / "b", "00000", [row(n) for n in range(5)])
    return [root / "a", root / "b"]


@pytest.mark.parametrize("container", ["arrow", "webdataset"])
def test_rows_of_several_folders_in_order(two, container):
    shards = Shards(two, container)
    assert len(shards) == 608
    assert [item.id for item in shards][-8:] == ["id0", "id1", "id2", "id0", "id1", "id2", "id3", "id4"]
    counts = [(n % 97, n % 4) for n in range(600)] + [(n, 1) for n in (*range(3), *range(5))]
    for number in (0, 255, 256, 599, 600, 603, 607):
        expected = row(*counts[number])
        assert shards[number].tokens.tolist() == expected.sequence.tokens.tolist()
        assert shards[number].tokens.dtype == np.int32
        assert [bytes(image) for image in shards[number].images] == expected.sequence.images
        assert shards[number].anchors == expected.sequence.anchors
        assert shards[number].url is None
    with pytest.raises(IndexError):
        shards[608]


@pytest.mark.parametrize("container", ["arrow", "webdataset"])
def test_it_pickles_small_and_opens_again(two, container):
    shards = Shards(two, container)
    content = wire.ForkingPickler.dumps(shards)  # what a data loader sends to its workers
    assert len(content) < 500
    again = wire.ForkingPickler.loads(content)
    assert again[606].tokens.tolist() == shards[606].tokens.tolist()
    assert again.special_tokens == SPECIAL


def test_the_door_needs_pyarrow_and_numpy_only():
    code = "import sys; import lcl_data.shards; print(sorted({name.split('.')[0] for name in sys.modules}))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("polars", "pydantic", "tokenizers", "PIL", "torch", "webdataset"):
        assert f"'{name}'" not in modules


def test_bytes_outlive_the_reader(two):
    image = Shards(two[0], "webdataset")[5].images[0]
    tokens = Shards(two[0], "arrow")[5].tokens
    assert bytes(image) == row(5).sequence.images[0]
    assert tokens.tolist() == row(5).sequence.tokens.tolist()
    with pytest.raises(TypeError):
        image[0] = 1


@pytest.mark.parametrize("missing", [1, 1024, 1500, 1600, 1900, 2100])
@pytest.mark.parametrize("container", ["arrow", "webdataset"])
def test_a_torn_file_is_named(tmp_path, container, missing):
    write(tmp_path / "a", rows=[row(3, 2), row(60, 3)])
    for path in (tmp_path / "a").glob("00000.*"):
        path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(ShardError, match=r"00000\.(arrow|tar): not a whole .*run `lcl shard` again"):
        Shards(tmp_path / "a", container)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["id", "directory/" * 12 + "id", "größe"])
def test_a_tar_that_others_wrote_again_is_read_too(tmp_path, form, name):
    """Other headers, long names, spaces in the JSON."""
    plain = Shards(write(tmp_path / "a", rows=[row(n, n % 3) for n in range(9)]), "webdataset")
    (tmp_path / "b").mkdir()
    with (
        tarfile.open(plain.paths[0]) as old,
        tarfile.open(tmp_path / "b" / "00000.tar", "w", format=form) as tar,
    ):
        for member in old:
            content = old.extractfile(member).read()
            if member.name.endswith(".json"):
                content = json.dumps(json.loads(content)).encode()
            member.name, member.size = member.name.replace("id", name), len(content)
            tar.addfile(member, io.BytesIO(content))
    again = Shards(tmp_path / "b")
    assert np.array_equal(again.lengths, plain.lengths) and np.array_equal(
        again.lengths, [len(r.tokens) for r in plain]
    )
    assert np.array_equal(again.image_counts, plain.image_counts)
    assert [[*map(bytes, r.images)] for r in again] == [[*map(bytes, r.images)] for r in plain]


def test_a_tar_without_readable_json_is_named(tmp_path):
    path = write(tmp_path / "a", rows=[row(n) for n in range(3)]) / "00000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"id":"id2"', b'"id":"id2,'))
    (tmp_path / "b").mkdir()
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(tmp_path / "b/00000.tar", "w") as tar:
        for member in old:
            member.name = member.name.replace("id2.json", "id2.jsun")
            tar.addfile(member, old.extractfile(member))
    for folder in ("a", "b"):
        shards = Shards(tmp_path / folder, "webdataset")
        assert shards[1].id == "id1"
        with pytest.raises(
            ShardError, match=r"sample 2 \(id2\): its json cannot be read .*run `lcl shard` again"
        ):
            shards[2]


def test_foreign_and_newer_files_are_refused(tmp_path):
    for name, schema in {
        "other": stamp(SEQUENCES, "documents", 1),
        "newer": stamp(SEQUENCES, "sequences", 9),
    }.items():
        (tmp_path / name).mkdir()
        with pa.OSFile(str(tmp_path / name / "00000.arrow"), "wb") as file:
            pa.ipc.new_file(file, schema).close()
    with pytest.raises(ShardError, match="holds documents, not sequences"):
        Shards(tmp_path / "other")
    with pytest.raises(ShardError, match="upgrade lcl"):
        Shards(tmp_path / "newer")
    content = write(tmp_path / "tar", rows=[row(1)]) / "00000.tar"
    content.write_bytes(content.read_bytes().replace(b"sequences/1", b"sequences/9"))
    with pytest.raises(ShardError, match="upgrade lcl"):
        Shards(tmp_path / "tar", "webdataset")


def test_folders_of_two_tokenizers_do_not_mix(tmp_path):
    write(tmp_path / "a", rows=[row(1)])
    write(tmp_path / "b", rows=[row(1)], special=SpecialTokens(1, 2, 3, 4, 5, 6, 7))
    with pytest.raises(ShardError, match="shard both with one tokenizer"):
        Shards([tmp_path / "a", tmp_path / "b"])


def manifest(folder, **rows):
    files = [{"name": f"{name}.arrow", "rows": count, "sha256": "ab"} for name, count in rows.items()]
    (folder / "manifest.json").write_text(json.dumps({"shards": files}))


def test_files_that_a_manifest_counts_are_opened_when_they_are_asked_for(tmp_path):
    for number in range(9):
        write(tmp_path / "a", f"{number:05d}", [row(number, number % 3), row(number)])
    plain = Shards(tmp_path / "a")
    manifest(tmp_path / "a", **{f"{number:05d}": 2 for number in range(9)})
    (tmp_path / "a" / "00005.arrow").write_bytes(b"torn")
    shards = Shards(tmp_path / "a")
    assert len(shards) == 18
    assert len(shards._open) == 1
    assert shards[17].tokens.tolist() == plain[17].tokens.tolist()
    assert len(shards._open) == 2
    with pytest.raises(ShardError, match=r"00005\.arrow: not a whole Arrow file"):
        shards[10]
    assert shards.digest != plain.digest


@pytest.mark.parametrize("suffix", [".arrow", ".tar"])
def test_files_that_a_manifest_names_and_that_are_gone_are_told(tmp_path, suffix):
    folder = tmp_path / "a"
    for number in range(4):
        write(folder, f"{number:05d}", [row(number)])
    shards = [{"name": path.name, "rows": 1, "sha256": "ab"} for path in sorted(folder.iterdir())]
    (folder / "manifest.json").write_text(json.dumps({"shards": shards}))
    for path in folder.glob("*.arrow" if suffix == ".tar" else "*.tar*"):
        path.unlink()  # of two containers one may be left at home
    assert len(Shards(folder)) == 4
    for number in (1, 2):
        (folder / f"{number:05d}{suffix}").unlink()
    with pytest.raises(
        ShardError, match=rf"a: 00001\{suffix} and 1 more not here, though the manifest names it"
    ):
        Shards(folder)


def test_a_file_that_is_not_what_its_manifest_says_is_told(tmp_path):
    write(tmp_path / "a", "00000", [row(1)])
    write(tmp_path / "a", "00001", [row(1)])
    write(tmp_path / "a", "00002", [row(1)], special=SpecialTokens(1, 2, 3, 4, 5, 6, 7))
    manifest(tmp_path / "a", **{"00000": 1, "00001": 2, "00002": 1})
    shards = Shards(tmp_path / "a")
    with pytest.raises(ShardError, match="1 rows, but its manifest says 2"):
        shards[1]
    with pytest.raises(ShardError, match="shard both with one tokenizer"):
        shards[3]
    (tmp_path / "a" / "manifest.json").write_text("[]")
    with pytest.raises(ShardError, match="not a manifest of LCL"):
        Shards(tmp_path / "a")


@pytest.mark.parametrize("container", ["arrow", "webdataset"])
def test_pages_and_files_are_given_back_and_views_stay_good(two, container, monkeypatch):
    monkeypatch.setattr(shards_module, "_PAGES_NBYTES", 1000)
    monkeypatch.setattr(shards_module, "_OPEN_FILES", 1)
    shards = Shards(two, container)
    kept = [(number, shards[number]) for number in (*range(0, 608, 7), 605)]
    assert len(shards._open) == 1
    for number, item in kept:
        assert [bytes(image) for image in item.images] == [bytes(image) for image in shards[number].images]


def test_an_unfinished_or_empty_folder_is_told(tmp_path):
    (tmp_path / "rejects").mkdir()
    with pytest.raises(ShardError, match="has not finished"):
        Shards(tmp_path)
    with pytest.raises(ShardError, match="no training shards"):
        Shards(tmp_path / "rejects")
