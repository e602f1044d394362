"""manifest.json of a stage folder: what was made, from what, by which settings, and the ledger.

The law: read = kept + rejected, for every kind a stage counts (documents, images; files where it reads
foreign ones; texts where it cuts them).
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import RecipeError, ShardError

MANIFEST = "manifest.json"
VERSION = 1


class Count(BaseModel):
    """How many of one kind were read, kept, and rejected under each reason.

    Attributes:
        changed: how many of those that were kept then each cleaner rewrote; null where no cleaner ran.
    """

    model_config = ConfigDict(extra="forbid")
    read: int = 0
    kept: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    changed: dict[str, int] | None = None

    def reject(self, reason: str, count: int = 1) -> None:
        """Count a rejection (of something already counted as read)."""
        self.rejected[reason] = self.rejected.get(reason, 0) + count

    def change(self, name: str, count: int = 1) -> None:
        """Count something that `name` rewrote."""
        self.changed = self.changed or {}
        self.changed[name] = self.changed.get(name, 0) + count

    def add(self, other: "Count") -> None:
        """Add another count to this one."""
        for name, count in (other.changed or {}).items():
            self.change(name, count)
        self.read += other.read
        self.kept += other.kept
        for reason, count in other.rejected.items():
            self.reject(reason, count)

    @property
    def balances(self) -> bool:
        """Whether read = kept + rejected."""
        return self.read == self.kept + sum(self.rejected.values())


class Ledger(BaseModel):
    """The counts of a stage or of one of its shards; `files` are counted by the stage as a whole."""

    model_config = ConfigDict(extra="forbid")
    documents: Count = Field(default_factory=Count)
    images: Count = Field(default_factory=Count)
    files: Count | None = None  # where a stage reads foreign ones
    texts: Count | None = None  # where a filter cut text items

    def add(self, other: "Ledger") -> None:
        """Add another ledger to this one."""
        self.documents.add(other.documents)
        self.images.add(other.images)
        if other.texts:
            self.texts = self.texts or Count()
            self.texts.add(other.texts)

    def sorted(self) -> "Ledger":
        """The same ledger with its reasons in alphabetical order, so that equal ledgers are equal bytes."""
        counts = {kind: count for kind, count in self if count is not None}
        for count in counts.values():
            count.rejected = dict(sorted(count.rejected.items()))
            count.changed = count.changed and dict(sorted(count.changed.items()))
        return Ledger(**counts)


class Shard(BaseModel):
    """One file of the stage folder."""

    model_config = ConfigDict(extra="forbid")
    name: str
    rows: int
    nbytes: int
    sha256: str


class Input(BaseModel):
    """A folder or file that the stage read, and the digest of what it held then."""

    model_config = ConfigDict(extra="forbid")
    name: str
    digest: str


class Manifest(BaseModel):
    """The whole of manifest.json. It holds no time, host or absolute path: equal work gives equal bytes."""

    model_config = ConfigDict(extra="forbid")
    version: int = VERSION
    stage: str
    digest: str  # of settings and inputs: a stage with an equal digest need not run again
    settings: dict[str, Any]
    inputs: list[Input]
    shards: list[Shard]
    ledger: Ledger
    failed: dict[str, str] = Field(default_factory=dict)  # shard or input file: why
    notes: list[str] = Field(default_factory=list)

    def to_bytes(self) -> bytes:
        """The content of manifest.json."""
        return self.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"

    @model_validator(mode="before")
    @classmethod
    def _known_version(cls, found: Any) -> Any:
        """Asked before all else: of a newer one no field need be known."""
        version = found.get("version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise ValueError(f"manifest of version {version}, this LCL reads up to {VERSION}; upgrade lcl")
        return found


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a stage folder.

    Raises:
        RecipeError: the folder is missing or no stage folder.
        ShardError: the stage has not finished, or its manifest is torn.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RecipeError(f"{folder}: no such folder")
    if not path.exists() and not (folder / "rejects").is_dir():
        raise RecipeError(f"{folder}: not a folder that lcl filled; give the OUT of an earlier stage")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ShardError(f"{folder}: the stage has not finished: run it again to complete it") from None
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # our own words
            raise ShardError(f"{path}: {first['ctx']['error']}") from error
        where = ".".join(map(str, first["loc"])) or "content"
        raise ShardError(
            f"{path}: not a manifest of LCL ({where}: {first['msg']}); run the stage again"
        ) from error
