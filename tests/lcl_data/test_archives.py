"""Packed files of lines, by MMC4's names: every layout is read, and what is torn or a bomb is told."""

import gzip
import random
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.sources.mmc4 import Mmc4
from schemas.errors import ShardError
from tests.lcl_data.sentences import PAGE, line, rows_of, upstream, zipped


@pytest.mark.parametrize("stem", [f"docs_{f}shard_7_v{v}" for f in ("", "no_face_") for v in (2, 3)])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.zip", ".jsonl.gz"])
def test_every_published_name(tmp_path, stem, ending):
    content = line(upstream())
    packed = {
        ".jsonl": content,
        ".jsonl.gz": gzip.compress(content),
        ".jsonl.zip": zipped(f"{stem}.jsonl", content),
    }
    (tmp_path / f"{stem}{ending}").write_bytes(packed[ending])
    (unit,) = Mmc4().units(tmp_path)
    assert unit.number == 7
    (row,) = Mmc4().read(unit)
    assert row.document.texts == tuple(upstream()["text_list"])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_mirror_zip_of_shards(tmp_path, method):
    inner = {
        f"docs_no_face_shard_{i}_v2.jsonl": line(upstream() | {"url": f"http://h.example/{i}"})
        for i in (5, 3)
    }
    with zipfile.ZipFile(tmp_path / "mmc4_0_5000.zip", "w", method) as outer:
        outer.mkdir("mmc4")
        for name, content in inner.items():
            outer.writestr(f"mmc4/{name}.zip", zipped(name, content))
        with outer.open("mmc4/docs_no_face_shard_9_v2.jsonl", "w", force_zip64=True) as member:
            member.write(line(upstream()))
        outer.writestr("mmc4/README.txt", "no shard")
    units = Mmc4().units(tmp_path)
    assert [unit.number for unit in units] == [3, 5, 9]
    found = [row.document.url for unit in units for row in Mmc4().read(unit)]
    assert found == ["http://h.example/3", "http://h.example/5", PAGE]
    assert Mmc4().notes(units) == ["missing shard numbers: 4, 6-8"]


def shard_zip():
    rng = random.Random(0)
    rows = [upstream() | {"text_list": [str(rng.random()) for _ in range(3)]} for _ in range(300)]
    return zipped("docs_shard_0_v2.jsonl", b"".join(map(line, rows)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_zip_names_file_and_remedy(tmp_path, share):
    path, whole = tmp_path / "docs_shard_0_v2.jsonl.zip", shard_zip()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ShardError, match=r"docs_shard_0_v2\.jsonl\.zip: torn .* download it again"):
        rows_of(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "docs_shard_0_v2.jsonl.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("docs_shard_0_v2.jsonl", "w") as member,
    ):
        for _ in range(80):
            member.write(bytes(1 << 20))
    with pytest.raises(ShardError, match="grows"):
        rows_of(path)


@settings(max_examples=60)
@given(st.data())
def test_damaged_archives_raise_shard_errors_only(tmp_path_factory, data):
    content = line(upstream())
    packed = zipped("docs_shard_0_v2.jsonl", content)
    nested = zipped("docs_shard_0_v2.jsonl.zip", packed, zipfile.ZIP_STORED)
    kinds = [(packed, ".zip"), (nested, ".zip"), (gzip.compress(content), ".gz")]
    found, ending = data.draw(st.sampled_from(kinds))
    whole = bytearray(found)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"docs_shard_0_v2.jsonl{ending}"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        rows_of(path)
    except ShardError as error:
        assert path.name in str(error)


def test_members_of_one_name_are_all_read_once(tmp_path):
    """No name tells them apart, so they make one shard."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("docs_shard_1_v2.jsonl", line(upstream()))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("docs_shard_1_v2.jsonl", line(upstream()) * 2)
    rows = rows_of(tmp_path)
    assert len({row.document.id for row in rows}) == len(rows) == 3
