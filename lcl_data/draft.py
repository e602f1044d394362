"""A shard while it is being written: its temporary files, its ledger and what it rejects.

`rejects/NNNNN.parquet` is published first and carries the shard's proof (digest, ledger, checksums) in its
metadata; then the shard's files get their names. A file that has its name and fits its proof is done;
nothing else marks it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from lcl_data import files
from schemas.documents import DOCUMENTS, IMAGE_STRUCT, ROW_GROUP_ROWS
from schemas.manifest import Count, Ledger, Shard
from schemas.rejects import REJECTS

REJECTS_FOLDER = "rejects"
_PROOF_KEY = b"lcl.proof"
# Columns whose values may repeat, as Parquet names them: all but the texts, whose dictionary would only be
# made, given up when it is full, and make reading slower by a third.
_REPEATED = [field.name for field in DOCUMENTS if field.name != "items"]
_REPEATED += [f"items.list.element.image.{field.name}" for field in IMAGE_STRUCT]


class Proof(BaseModel):
    """What `rejects/NNNNN.parquet` says of its shard."""

    digest: str
    ledger: Ledger
    shards: list[Shard]
    notes: list[str] = []


@dataclass(slots=True)
class Draft:
    """One shard in the making.

    Attributes:
        folder: of the stage.
        number: of the shard; its files are called NNNNN + suffix.
        digest: of the stage's settings and inputs.
        ledger: counts so far; `read` and `kept` are counted by the shard function.
        notes: lines for the manifest.
    """

    folder: Path
    number: int
    digest: str
    ledger: Ledger = field(default_factory=Ledger)
    notes: list[str] = field(default_factory=list)
    _rows: dict[str, int] = field(default_factory=dict)
    _rejects: list[dict[str, Any]] = field(default_factory=list)

    def path(self, suffix: str) -> Path:
        """Where to write the shard's file NNNNN + suffix; it gets its name at `commit`."""
        name = f"{self.number:05d}{suffix}"
        self._rows.setdefault(name, 0)
        return files.temporary(self.folder / name)

    def rows(self, suffix: str, count: int) -> None:
        """Say how many rows the file NNNNN + suffix holds."""
        self._rows[f"{self.number:05d}{suffix}"] = count

    def count(self, kind: str) -> Count:
        """The ledger's count of `documents`, `images` or `texts` (counted only where they are cut)."""
        if kind == "texts" and self.ledger.texts is None:
            self.ledger.texts = Count()
        counted: Count = getattr(self.ledger, kind)
        return counted

    def reject(self, kind: str, reason: str, count: int = 1, **where: Any) -> None:
        """Count a rejection and write it down.

        Args:
            kind: documents, images or texts.
            reason: short name, such as `broken_json` or `image_size:too_small`.
            count: ledger entries it stands for.
            **where: id, item, url, place, detail: columns of `REJECTS`.
        """
        self.count(kind).reject(reason, count)
        self._rejects.append({"kind": kind, "reason": reason, "count": count, **where})

    def commit(self) -> None:
        """Publish the proof, then the files."""
        shards = [self._shard(name, rows) for name, rows in sorted(self._rows.items())]
        proof = Proof(digest=self.digest, ledger=self.ledger.sorted(), shards=shards, notes=self.notes)
        metadata = {**REJECTS.metadata, _PROOF_KEY: proof.model_dump_json(exclude_none=True)}
        table = pa.Table.from_pylist(self._rejects, schema=REJECTS).replace_schema_metadata(metadata)
        path = proof_path(self.folder, self.number)
        pq.write_table(table, files.temporary(path), compression="zstd")
        files.publish(path)
        for shard in shards:
            files.publish(self.folder / shard.name)

    def discard(self) -> None:
        """Remove the temporary files of a shard that failed."""
        for name in self._rows:
            files.temporary(self.folder / name).unlink(missing_ok=True)

    def _shard(self, name: str, rows: int) -> Shard:
        path = files.temporary(self.folder / name)
        return Shard(name=name, rows=rows, nbytes=path.stat().st_size, sha256=files.sha256(path))


class DocumentWriter:
    """Writes a shard's documents in row groups as they come, so that memory stays flat; counts them as
    kept.
    """

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        path = draft.path(".parquet")
        self._writer = pq.ParquetWriter(path, DOCUMENTS, compression="zstd", use_dictionary=_REPEATED)
        self._count = 0

    def __enter__(self) -> "DocumentWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._draft.rows(".parquet", self._count)

    def write(self, table: pa.Table, images: int) -> None:
        """Append rows of schema `DOCUMENTS` that hold `images` image items in all."""
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._count += table.num_rows
        self._draft.ledger.documents.kept += table.num_rows
        self._draft.ledger.images.kept += images


def proof_path(folder: Path, number: int) -> Path:
    """The rejects table that proves shard `number` of a stage folder."""
    return folder / REJECTS_FOLDER / f"{number:05d}.parquet"


def proof_of(folder: Path, number: int, digest: str) -> Proof | None:
    """The proof that shard `number` is done under `digest`; None if it is not, or was made otherwise."""
    proof = _read(proof_path(folder, number))
    if proof is None or proof.digest != digest:
        return None
    whole = all(has_size(folder / shard.name, shard.nbytes) for shard in proof.shards)
    return proof if whole else None


def digest_in(path: Path) -> str:
    """The digest in a proof, which begins with the name of its stage; empty where it is none of ours."""
    proof = _read(path)
    return proof.digest if proof else ""


def has_size(path: Path, nbytes: int) -> bool:
    """Whether a file is there and as long as it was when it was written."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found.st_size == nbytes and S_ISREG(found.st_mode)


def _read(path: Path) -> Proof | None:
    try:
        metadata = pq.read_schema(files.reading(path)).metadata or {}
        return Proof.model_validate(json.loads(metadata[_PROOF_KEY]))
    except (FileNotFoundError, pa.ArrowInvalid, KeyError, ValidationError):
        return None
