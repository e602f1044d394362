"""Web archives that are torn, damaged or made to keep a reader busy: every tear is told, the rest is read."""

import gzip
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from schemas.documents import Document
from schemas.errors import ShardError
from tests.lcl_data.archived import (
    ARC,
    ARCHIVE,
    PACKED,
    PAGE,
    PICTURE,
    SECOND,
    SITE,
    outcomes,
    record,
    rows,
    write,
)

pytest.importorskip("selectolax")
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "warc"


def complete(parts, cut, packed):
    """Pages that lie before a cut."""
    sizes = [len(PACKED(part)) if packed else len(part.rstrip(b"\r\n")) for part in parts]
    whole = [len(PACKED(part)) if packed else len(part) for part in parts]
    ends = [sum(whole[:i]) + sizes[i] for i in range(len(parts))]
    return ["One." for part, end in zip(parts, ends, strict=True) if end <= cut and part == PAGE] + [
        "Two." for part, end in zip(parts, ends, strict=True) if end <= cut and part == SECOND
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_wherever_an_archive_is_cut_all_before_the_cut_is_kept(tmp_path, packed):
    path = write(tmp_path / ("a.warc.gz" if packed else "a.warc"), ARCHIVE)
    content = path.read_bytes()
    sizes = [len(PACKED(part) if packed else part) for part in ARCHIVE]
    ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    for cut in range(len(content)):
        if cut % 7 and min(abs(cut - end) for end in ends) > 8:
            continue  # every place near a record's end, and one in seven of the others
        path.write_bytes(content[:cut])
        try:
            found = outcomes(rows(path))
        except ShardError:
            assert cut < 40
            continue
        kept = complete(ARCHIVE, cut, packed)
        words = [word for word in found if word != "torn_record"]
        # A gzip member that lacks only its checksum holds its record, whole.
        assert words[: len(kept)] == kept and len(words) <= len(kept) + packed
        assert found.count("torn_record") <= 1


@pytest.mark.parametrize("packed", [False, True])
def test_what_stands_behind_a_tear_is_found_again(tmp_path, packed):
    damaged = bytearray(
        PACKED(PICTURE) if packed else PICTURE.replace(b"Content-Length: ", b"Content-Length: x", 1)
    )
    if packed:
        damaged[len(damaged) // 2 :] = b""
    parts = [PACKED(PAGE) if packed else PAGE, bytes(damaged), PACKED(SECOND) if packed else SECOND]
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(b"".join(parts))
    assert outcomes(rows(path)) == ["One.", "torn_record", "Two."]


@settings(max_examples=150)
@given(st.data())
def test_flipped_bytes_and_garbage_are_counted(tmp_path_factory, data):
    parts = data.draw(st.sampled_from([ARCHIVE, ARC]))
    packed = data.draw(st.booleans())
    content = bytearray(b"".join(map(PACKED, parts) if packed else parts))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    at = data.draw(st.integers(0, len(content)))
    content[at:at] = data.draw(st.binary(max_size=20))
    path = tmp_path_factory.mktemp("flipped") / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = rows(path)
    except ShardError:
        return
    for row in found:
        if isinstance(row.document, Document):
            assert row.images == len(row.document.images) + len(row.lost)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", bytes(1000), gzip.compress(b"hello"), b"\x1f\x8b\x08", b"WARC"]
)
def test_a_file_that_is_no_archive_fails_alone(tmp_path, content):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.warc.gz").write_bytes(content)
    write(tmp_path / "in" / "b.warc.gz", ARCHIVE)
    manifest = ingest(tmp_path / "in", tmp_path / "out", Ingest(format="warc"), Engine())
    assert list(manifest.failed) == ["a.warc.gz"] and "no WARC or ARC" in manifest.failed["a.warc.gz"]
    assert manifest.ledger.documents.kept == 2


def test_trailing_zeros_are_no_tear(tmp_path):
    path = write(tmp_path / "a.warc.gz", ARCHIVE)
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert outcomes(rows(path)) == ["One.", "Two."]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
@pytest.mark.parametrize("behind", [b"", SECOND])
def test_a_hole_is_a_tear(tmp_path, name, behind):
    """As a download leaves it whose room was taken beforehand."""
    parts = [PACKED(part) if name.endswith("gz") else part for part in (PAGE, behind) if part]
    (tmp_path / name).write_bytes(parts[0] + bytes(2 << 20) + b"".join(parts[1:]))
    found = outcomes(rows(tmp_path / name))
    assert found == ["One.", "torn_record", *(["Two."] if behind else [])]


def test_headers_without_end_take_no_time(tmp_path):
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX: a\r\n" + b" a\r\n" * 1_500_000
    path = write(tmp_path / "a.warc", [record(SITE, endless), SECOND])
    before = time.process_time()
    assert outcomes(rows(path))[-1] == "Two."
    assert time.process_time() - before < 5  # a minute and a half where all of it counted as headers
