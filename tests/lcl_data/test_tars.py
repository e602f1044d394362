"""Strangers' tars: the places of the bytes, samples by key, and a torn one says so."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.tars import members, samples
from schemas.errors import ShardError

FILES = {
    "a/one.json": b"{}",
    "a/one.Tiff": b"x" * 700,
    "two.json": b"",
    ".hidden": b"no key but its name",
    "a/one.txt": b"apart from its sample",
    "a.b/three.seg.png": b"y" * 513,
    "ключ" * 40 + ".json": b"a long name in a header of its own",
}


def write(path, files=FILES, **options):
    with tarfile.open(path, "w", **options) as tar:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_file_is_found_where_its_bytes_are(tmp_path, kind):
    files = {name: content for name, content in FILES.items() if len(name) < 100 or kind}
    whole = write(tmp_path / "x.tar", files, format=kind).read_bytes()
    found = list(members(tmp_path / "x.tar"))
    assert {m.name: whole[m.offset : m.offset + m.nbytes] for m in found} == files
    assert [m.name for m in found] == list(files)


def test_members_that_follow_one_another_and_share_a_key_are_a_sample(tmp_path):
    found = [(key, [m.part for m in group]) for key, group in samples(write(tmp_path / "x.tar"))]
    assert found == [
        ("a/one", ["json", "tiff"]),
        ("two", ["json"]),
        (".hidden", ["hidden"]),
        ("a/one", ["txt"]),
        ("a.b/three", ["seg.png"]),
        ("ключ" * 40, ["json"]),
    ]


def test_a_tar_torn_anywhere_is_told(tmp_path):
    """The end mark may be short of its padding, but must be there."""
    whole = write(tmp_path / "x.tar").read_bytes()
    mark = len(whole.rstrip(b"\0"))
    mark += -mark % 512
    torn = tmp_path / "torn.tar"
    for length in [*range(0, mark, 512), *range(1, mark, 331), mark + 100]:
        torn.write_bytes(whole[:length])
        with pytest.raises(ShardError, match=r"torn\.tar: torn or no tar .* download it again"):
            list(members(torn))
    torn.write_bytes(whole[: mark + 512])
    assert len(list(members(torn))) == len(FILES)


def test_a_damaged_header_in_the_middle_is_no_end(tmp_path):
    path = write(tmp_path / "x.tar")
    whole = bytearray(path.read_bytes())
    third = next(m for m in members(path) if m.name == "two.json").offset - 512
    whole[third : third + 512] = b"z" * 512
    path.write_bytes(whole)
    with pytest.raises(ShardError, match="no end mark"):
        list(members(path))


def test_a_hole_or_a_second_tar_behind_the_end_mark_is_no_end(tmp_path):
    """As a download leaves it whose room was taken beforehand, or `cat a.tar b.tar`."""
    path = write(tmp_path / "x.tar")
    whole = path.read_bytes()
    half = next(m for m in members(path) if m.name == "two.json").offset - 512
    gap = whole[:half] + bytes(1024) + whole[half:]
    for content in (whole + whole, gap, whole[:half] + bytes(2 << 20)):
        path.write_bytes(content)
        with pytest.raises(ShardError, match="behind the end mark"):
            list(members(path))


def pax(content, size=None):
    """A header that speaks of the next one."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(content) if size is None else size
    return info.tobuf(tarfile.USTAR_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0")


def test_headers_made_to_keep_a_reader_busy_are_refused(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(pax(b"9 a=bcde\n") * 5000)
    with pytest.raises(ShardError, match="recursion"):
        list(members(path))
    path.write_bytes(pax(b"", size=6 << 30))
    with pytest.raises(ShardError, match="a header of 6442450944 bytes"):
        list(members(path))


def test_names_in_other_encodings_are_written_out(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("caf\xe9.jpg"))
    assert [m.name for m in members(tmp_path / "x.tar")] == ["caf\\xe9.jpg"]


@settings(max_examples=150)
@given(st.data())
def test_damaged_tars_raise_shard_errors_only(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("damaged") / "x.tar")
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        assert all(m.offset + m.nbytes <= len(whole) for m in members(path))
    except ShardError as error:
        assert "x.tar" in str(error)
