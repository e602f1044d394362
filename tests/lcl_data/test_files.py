import os
import pickle  # noqa: TID251 - what crosses to a worker
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as law
from hypothesis import strategies as st

from lcl_data import files
from lcl_data.at_once import ranges
from schemas.errors import RecipeError
from tests.storage import Storage

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def bucket(storage: Storage) -> Path:
    """A folder in object storage with a few files."""
    folder = files.place(storage.bucket("files")) / "some" / "folder"
    for name in ("a-b/1.bin", "a/2.bin", "3.bin"):
        files.write(folder / name, CONTENT)
    return folder


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on a disk."""
    folder = tmp_path_factory.mktemp("disk") / "folder"
    for name in ("a-b/1.bin", "a/2.bin", "3.bin"):
        files.make((folder / name).parent)
        files.write(folder / name, CONTENT)
    return folder


def test_a_local_path_is_plain_and_imports_nothing() -> None:
    assert files.place("some/where") == Path("some/where") and type(files.place("/x")) is type(Path("/x"))
    code = (
        "import sys, lcl_data.files as f; f.place('/x/y'); print([n for n in sys.modules if 'fsspec' in n])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["ftp://host/x", "file:///etc/passwd", "http://host/x", "S3://bucket/x"])
def test_other_storage_is_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(RecipeError, match="s3://, gs://, hf://"):
        files.place(text)


def test_what_is_not_published_is_not_there(bucket: Path, disk: Path) -> None:
    for folder in (bucket, disk):
        path = folder / "drafts" / "00000.parquet"
        files.make(path.parent)
        files.temporary(path).write_bytes(b"half")
        assert not path.exists() and isinstance(files.temporary(path), Path)
        files.temporary(path).write_bytes(b"whole")
        files.publish(path)
        assert path.read_bytes() == b"whole" and not files.temporary(path).exists()


def test_a_sweep_takes_the_drafts_of_its_folder_only(bucket: Path, disk: Path) -> None:
    for folder in (bucket, disk):
        mine, other = folder / "mine" / "x", folder / "other" / "x"
        for path in (mine, other):
            files.make(path.parent)
            files.temporary(path).write_bytes(b"half")
        files.sweep(mine.parent)
        assert not files.temporary(mine).exists() and files.temporary(other).exists()
        files.sweep(other.parent)


def test_storage_answers_as_a_disk_does(bucket: Path, disk: Path) -> None:
    def names(folder: Path) -> list[str]:
        return [path.relative_to(folder).as_posix() for path in files.below(folder) if "x" not in path.name]

    assert [name for name in names(bucket) if "drafts" not in name] == ["3.bin", "a/2.bin", "a-b/1.bin"]
    assert names(bucket) == names(disk)
    near, far = (folder / "a" / "2.bin" for folder in (disk, bucket))
    assert files.sha256(near) == files.sha256(far) and files.fingerprint(near) == files.fingerprint(far)
    assert files.place(f"{bucket}//a/") == files.place(f"{bucket}/a")
    assert pickle.loads(pickle.dumps(far)) == far and files.place(str(far)) == far
    with files.at_hand(far) as copy:
        assert copy.read_bytes() == CONTENT and copy.suffix == ".bin"
    assert not copy.exists()
    assert files.inside(bucket / "nothing") == []


@law(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 3000)), max_size=6))
def test_ranges_are_those_of_the_disk(bucket: Path, disk: Path, places: list[tuple[int, int]]) -> None:
    places = sorted(places)
    expected = [CONTENT[offset : offset + nbytes] for offset, nbytes in places]
    for folder in (disk, bucket):
        assert list(ranges(folder / "3.bin", places)) == expected


def test_arrow_reads_storage(bucket: Path) -> None:
    table = pa.table({"number": range(1000), "text": [str(n) for n in range(1000)]})
    path = bucket / "table.parquet"
    pq.write_table(table, files.temporary(path), row_group_size=100)
    files.publish(path)
    assert pq.read_table(files.reading(path)) == table
    assert pq.read_table(files.reading(path), columns=["text"]).num_rows == 1000


def test_a_folder_is_removed_whole_and_only_it(bucket: Path, disk: Path) -> None:
    for folder in (bucket, disk):
        for name in ("gone", "gone-not"):
            files.make(folder / name)
            files.write(folder / name / "file", b"x")
        files.remove(folder / "gone")
        files.remove(folder / "gone")
        assert files.inside(folder / "gone-not") and not (folder / "gone").exists()


def test_nobody_makes_a_bucket(storage: Storage, tmp_path: Path) -> None:
    path = files.place("s3://no-such-bucket/folder/file")
    files.make(path.parent)
    with pytest.raises(OSError, match="bucket"):
        files.write(path, b"x")
    assert not path.exists()
    files.sweep(path.parent)


def test_what_lies_on_the_way_is_kept_apart_by_folder(bucket: Path, disk: Path) -> None:
    assert files.scratch(disk) == disk
    assert files.scratch(bucket) == files.scratch(files.place(str(bucket))) != files.scratch(bucket / "a")
    assert files.scratch(bucket).parent == Path(os.environ["LCL_SCRATCH"])


def test_a_file_is_moved_within_a_folder(bucket: Path, disk: Path) -> None:
    for folder in (bucket, disk):
        old, new = folder / "aside-x", folder / "moved" / "aside-x"
        files.write(old, CONTENT)
        files.make(new.parent)
        old.rename(new)
        assert not old.exists() and new.read_bytes() == CONTENT
