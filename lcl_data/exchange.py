"""An exchange answers a question about the whole corpus: *keys* writes narrow rows partitioned by bucket,
*reduce* runs a query on one bucket at a time.

Memory is that of the largest bucket (and of one unit's keys) whatever the corpus. Everything lies on disk
between the halves, so a killed run resumes at the group of units or at the bucket.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from lcl_data import files
from lcl_data.engine import Engine
from lcl_data.stage import Unit
from schemas.errors import RecipeError

Keys = Callable[[Unit], pl.DataFrame]
Reduce = Callable[[pl.DataFrame], pl.DataFrame]

FOLDER = "exchange"  # of a stage: removed once the stage has its manifest
# 2 M rows of about 100 bytes: 0.2 GB on disk and about 1 GB through a join, per worker.
_BUCKET_ROWS = 2_000_000
# Units whose keys share one set of bucket files: few enough to keep memory flat, many enough that 10,000
# shards do not become 10,000 x buckets small files.
_GROUP_UNITS = 16
_GROUPS_WANTED = 64
_PART_BYTES = 128 << 20  # of a group's rows that are held before they are written
# Of a row group of answers: every shard reads one of every bucket, in 1.5 to 2.7 ms; of 100,000 rows in 6.
_ANSWER_ROWS = 10_000
_KEYS, _ANSWERS, _EMPTY = "keys", "answers", "empty.parquet"


@dataclass(frozen=True, slots=True)
class _Group:
    number: int
    units: tuple[Unit, ...]


def exchange(
    folder: Path, units: Sequence[Unit], keys: Keys, reduce: Reduce, buckets: int, engine: Engine
) -> list[Path]:
    """Answer one question about all units.

    Args:
        folder: scratch of this question alone: put the stage's digest into its name (`scratch` does), because
            what a killed run left there is taken as it is.
        units: input shards, in an order that does not change between runs.
        keys: the narrow rows of a unit, with a column `key` of UInt64; the same columns for all units.
            Picklable.
        reduce: the answer rows of all rows whose `key` falls into one bucket; they come in the order of the
            units. Picklable.
        buckets: how many (see `buckets_for`); rows with `key % buckets == b` meet in bucket b.
        engine: where both halves run.

    Returns:
        One Parquet file of answers per bucket, in order of buckets, each sorted by all its columns from left
        to right; none if there are no units.

    Raises:
        ShardError: a unit is torn; what is done stays done.
    """
    groups = _groups(units)
    if not groups:
        return []
    for half in (_KEYS, _ANSWERS):
        (folder / half).mkdir(parents=True, exist_ok=True)
    _sweep(folder / _KEYS)
    files.sweep(folder / _ANSWERS)
    answers = [folder / _ANSWERS / f"{bucket:05d}.parquet" for bucket in range(buckets)]
    if not all(path.exists() for path in answers):
        missing = [group for group in groups if not _group_folder(folder, group.number).exists()]
        question = folder.name.rpartition("-")[0] or folder.name
        _drain(engine, f"{question}, keys", partial(_write_keys, folder, keys, buckets), missing)
        todo = [bucket for bucket, path in enumerate(answers) if not path.exists()]
        _drain(engine, f"{question}, answers", partial(_write_answer, folder, reduce, len(groups)), todo)
    return answers


def answers_of(answers: Sequence[Path], shard: int) -> pl.DataFrame:
    """The answer rows about documents of shard number `shard`, in the order of all their columns.

    Args:
        answers: files of an exchange (one at least) whose first column is `document`: each is sorted by it,
            so that only the row groups that hold the shard are read.
        shard: number of a document shard.
    """
    of_shard = pl.col("document").is_between(shard << 32, (shard + 1 << 32) - 1)
    found = pl.concat([pl.scan_parquet(path) for path in answers]).filter(of_shard).collect()
    return found.sort(found.columns)


def buckets_for(rows: int) -> int:
    """How many buckets hold `rows` narrow rows with at most 2 million in each, if keys spread evenly."""
    return max(1, -(-rows // _BUCKET_ROWS))


def scratch(out: Path, name: str, digest: str) -> Path:
    """The scratch folder of question `name` of the stage in `out` under `digest`."""
    return files.scratch(out) / FOLDER / f"{name}-{digest[-16:]}"


def remove(out: Path) -> None:
    """Remove the scratch folders of a stage, those of earlier settings too."""
    files.remove(files.scratch(out) / FOLDER)


def hashes(values: Iterable[str]) -> NDArray[np.uint64]:
    """128-bit XXH3 of each string as two columns (key, check): shape [n, 2], uint64.

    Stable across processes, machines and versions (unlike polars' own hash). Rows that share a key are the
    same only if they share the check too: among 10**10 values an accident has odds of 1 in 10**18.
    """
    packed = b"".join(xxhash.xxh3_128_digest(value.encode()) for value in values)
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def _groups(units: Sequence[Unit]) -> list[_Group]:
    size = min(_GROUP_UNITS, max(1, len(units) // _GROUPS_WANTED))
    starts = range(0, len(units), size)
    return [_Group(number, tuple(units[start : start + size])) for number, start in enumerate(starts)]


def _group_folder(folder: Path, number: int) -> Path:
    return folder / _KEYS / f"{number:05d}"


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{files.TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)  # a worker of a killed run may write in it to its last moment


def _drain(engine: Engine, name: str, function: Callable[[Any], None], units: Sequence[Any]) -> None:
    for done, _ in enumerate(engine.run(function, units), start=1):
        engine.progress(name, done, len(units))


def _write_keys(folder: Path, keys: Keys, buckets: int, group: _Group) -> None:
    """Write a group's rows; the folder's name is the proof that all are there."""
    final = _group_folder(folder, group.number)
    if not final.parent.is_dir():
        raise RecipeError(
            f"{folder}: not seen by {gethostname()}; keep it where every node sees it: {files.SCRATCH}=FOLDER"
        )
    if final.exists():  # a cluster tries a task again whose worker died after its last act
        return
    draft = files.temporary(final)
    try:
        for number, rows in enumerate(_parts(keys(unit) for unit in group.units)):
            _write_part(draft / f"{number:05d}", rows, buckets)
        draft.rename(final)
    except Exception:
        shutil.rmtree(draft, ignore_errors=True)  # of a full disk: it must not fill it further
        if not final.exists():  # else a worker that was given up has made the same meanwhile
            raise


def _parts(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The rows of a group, one part where they are narrow: facts to be compared may be kilobytes each."""
    held: list[pl.DataFrame] = []
    for rows in frames:
        held.append(rows)
        if sum(each.estimated_size() for each in held) >= _PART_BYTES:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def _write_part(folder: Path, rows: pl.DataFrame, buckets: int) -> None:
    """Write rows, a file per bucket."""
    folder.mkdir(parents=True)
    rows.head(0).write_parquet(folder / _EMPTY)
    partition = pl.PartitionBy(
        folder,
        key="__bucket",
        include_key=False,
        file_path_provider=_bucket_name,
        approximate_bytes_per_file=None,
    )
    rows.lazy().with_columns((pl.col("key") % buckets).alias("__bucket")).sink_parquet(
        partition, compression="lz4", maintain_order=True, sync_on_close="data"
    )


def _bucket_name(file: Any) -> str:
    return f"{file.partition_keys['__bucket'][0]:05d}.parquet"


def _write_answer(folder: Path, reduce: Reduce, groups: int, bucket: int) -> None:
    parts = [part for number in range(groups) for part in sorted(_group_folder(folder, number).iterdir())]
    present = [path for part in parts if (path := part / f"{bucket:05d}.parquet").exists()]
    rows = pl.concat([pl.read_parquet(path) for path in (parts[0] / _EMPTY, *present)])
    answer = reduce(rows)
    path = folder / _ANSWERS / f"{bucket:05d}.parquet"
    answer.sort(answer.columns).write_parquet(
        files.temporary(path), compression="zstd", row_group_size=_ANSWER_ROWS, statistics=True
    )
    files.publish(path)
