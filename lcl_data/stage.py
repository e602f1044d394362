"""A stage folder and the one way to fill it: units of work become numbered shards, each with its proof and
ledger.

A killed run resumes at the shard; a shard made under other settings or from other inputs is made again; a
unit whose file is torn fails alone and is named in the manifest.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lcl_data import files
from lcl_data.at_once import each
from lcl_data.draft import REJECTS_FOLDER, Draft, Proof, has_size, proof_of, proof_path
from lcl_data.engine import Engine
from lcl_data.folders import changes, claim, owners
from schemas.documents import DOCUMENTS
from schemas.errors import RecipeError, ShardError
from schemas.manifest import MANIFEST, Count, Input, Ledger, Manifest, Shard, read_manifest
from schemas.members import key
from schemas.recipe import Settings
from schemas.versions import check, release

_OURS = re.compile(r"^(\d{5,}(_stats)?\.(parquet|arrow|tar|json)|\.tmp-.*)$")
DOCUMENTS_FROM = ("ingest", "filter", "dedupe")
IMAGES_FROM = ("download",)


@dataclass(frozen=True, slots=True)
class Unit:
    """What one shard is made from.

    Attributes:
        number: of the shard in the output folder.
        name: what a person calls it: an upstream file, an input shard.
        payload: what the shard function needs; small and picklable.
        digest: of what it is made from, where that is one file: a changed file then costs one shard. Empty
            where the unit depends on all the inputs of its stage.
    """

    number: int
    name: str
    payload: Any = None
    digest: str = ""


ShardFunction = Callable[[Unit, Draft], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage folder about to be filled.

    Attributes:
        name: ingest, download, filter, dedupe or shard.
        out: the folder.
        settings: by which it is filled; written into the manifest and part of the digest.
        inputs: what it reads, by digest.
        counts_files: its units are foreign files, which the ledger counts as it does documents.
        leaves: names or patterns, besides shards and rejects, of what an unfinished run leaves in the folder.
        proof: pattern of what this stage alone makes, where its work is no numbered shards.
    """

    name: str
    out: Path
    settings: dict[str, Any]
    inputs: tuple[Input, ...]
    counts_files: bool = False
    leaves: tuple[str, ...] = ()
    proof: str = ""

    @property
    def digest(self) -> str:
        """Of the settings, the inputs and the version of LCL: equal digests mean equal bytes.

        It begins with the stage's name, so that the proofs in a folder say whose folder it is.
        """
        inputs = [source.digest for source in self.inputs]
        return f"{self.name}-{files.digest([self.settings, inputs, release()])}"

    def digest_of(self, unit: Unit) -> str:
        """What the proof of a unit's shard must say."""
        own = [self.settings, unit.digest, unit.name, release()]
        return f"{self.name}-{files.digest(own)}" if unit.digest else self.digest

    def proof_of(self, unit: Unit) -> Proof | None:
        """The proof that a unit's shard is done, if it is."""
        return proof_of(self.out, unit.number, self.digest_of(unit))

    def proofs_of(self, units: Sequence[Unit]) -> list[Proof | None]:
        """The proofs of several units, in their order."""
        return each(self.out, self.proof_of, units)

    def finished(self) -> Manifest | None:
        """The manifest, if the stage has run to its end under this digest and every shard is still there.

        Raises:
            RecipeError: the folder is another stage's, or holds what LCL did not write.
        """
        return None if self.pending() else read_manifest(self.out)

    def pending(self) -> str:
        """Why the stage would do work if it were run now; empty where it would not.

        Raises:
            RecipeError: the folder is another stage's, or holds what LCL did not write.
        """
        claim(self.out, self.name, self.leaves, self.proof)
        if not (self.out / MANIFEST).exists():
            is_begun = any(owners(self.out, self.name, self.proof))
            return "begun and not finished" if is_begun else "never run"
        manifest = read_manifest(self.out)
        if manifest.digest != self.digest:
            return changes(manifest, self.settings, self.inputs)
        if manifest.failed:
            return f"failed last time: {', '.join(manifest.failed)}"
        whole = each(self.out, lambda shard: has_size(self.out / shard.name, shard.nbytes), manifest.shards)
        gone = [shard.name for shard, is_whole in zip(manifest.shards, whole, strict=True) if not is_whole]
        return f"missing or torn: {', '.join(gone)}" if gone else ""

    def run(
        self, function: ShardFunction, units: Sequence[Unit], engine: Engine, notes: Sequence[str] = ()
    ) -> Manifest:
        """Fill the folder with one shard per unit and write its manifest.

        Args:
            function: writes one shard; picklable; deterministic in (unit, settings).
            units: with distinct numbers.
            engine: where the function runs.
            notes: lines for the manifest.

        Returns:
            The manifest; its `failed` names the units whose files were torn.

        Raises:
            RecipeError: the folder holds something that is not ours.
        """
        self.prepare()
        todo = [unit for unit, proof in zip(units, self.proofs_of(units), strict=True) if proof is None]
        failed = {}
        work = partial(_write_shard, function, self)
        for done, (unit, error) in enumerate(engine.run(work, todo), start=len(units) - len(todo) + 1):
            if error:
                failed[unit.name] = error
            engine.progress(self.name, done, len(units))
        return self.finish(units, failed, notes)

    def prepare(self) -> None:
        """Make the folder ready: ours or empty, without half-written files or an outdated manifest."""
        claim(self.out, self.name, self.leaves, self.proof)
        for folder in (self.out, self.out / REJECTS_FOLDER):
            files.make(folder)
            files.sweep(folder)
        (self.out / MANIFEST).unlink(missing_ok=True)

    def finish(self, units: Sequence[Unit], failed: dict[str, str], notes: Sequence[str] = ()) -> Manifest:
        """Add up the proofs of all units, drop shards of an earlier run that no unit made, write the
        manifest.
        """
        numbers = [unit.number for unit in units]
        proofs = dict(zip(numbers, self.proofs_of(units), strict=True))
        made = {number: proof for number, proof in sorted(proofs.items()) if proof}
        ledger = Ledger()
        for proof in made.values():
            ledger.add(proof.ledger)
        if self.counts_files:
            ledger.files = Count(read=len(units), kept=len(made))
            ledger.files.rejected = {"failed": len(failed)} if failed else {}
        _drop_leftovers(self.out, made)
        return self.publish(
            [shard for proof in made.values() for shard in proof.shards],
            ledger,
            failed,
            [*notes, *(note for proof in made.values() for note in proof.notes)],
        )

    def seal(self, outputs: Sequence[Path]) -> Manifest:
        """Write the manifest of a stage that counts nothing and has filled its folder with these files."""
        shards = [
            Shard(
                name=path.relative_to(self.out).as_posix(),
                rows=0,
                nbytes=path.stat().st_size,
                sha256=files.sha256(path),
            )
            for path in outputs
        ]
        return self.publish(shards, Ledger())

    def publish(
        self,
        shards: Sequence[Shard],
        ledger: Ledger,
        failed: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ) -> Manifest:
        """Write manifest.json, which says that the stage has run to its end."""
        manifest = Manifest(
            stage=self.name,
            digest=self.digest,
            settings=self.settings,
            inputs=list(self.inputs),
            shards=list(shards),
            ledger=ledger.sorted(),
            failed=dict(sorted((failed or {}).items())),
            notes=list(notes),
        )
        files.write(self.out / MANIFEST, manifest.to_bytes())
        return manifest


def settings_of(step: Settings) -> dict[str, Any]:
    """A step's settings as they enter manifest and digest."""
    return step.model_dump(mode="json")


def code_of(steps: Sequence[Settings]) -> list[Input]:
    """The modules of third parties' steps: a changed one works anew. What they import is not looked into."""
    modules = {key(each): inspect.getsourcefile(type(each)) for each in steps if ":" in key(each)}
    return [Input(name=name, digest=files.sha256(Path(path))) for name, path in modules.items() if path]


def input_of(name: str, folder: Path, stages: Sequence[str]) -> Input:
    """An earlier stage's folder as an input: its digest is that of its manifest.

    Raises:
        RecipeError: the folder is missing, or is not of one of these stages.
        ShardError: the stage has not finished.
    """
    stage = read_manifest(folder).stage
    if stage not in stages:
        raise RecipeError(
            f"{folder}: filled by `{stage}`; give the folder of {' or '.join(stages)} as {name}"
        )
    return Input(name=name, digest=files.sha256(folder / MANIFEST))


def document_units(folder: Path) -> list[Unit]:
    """One unit per document shard of a stage folder; the payload is its path."""
    shards = [shard.name for shard in read_manifest(folder).shards if shard.name.endswith(".parquet")]
    return [Unit(int(name.split(".")[0]), name, folder / name) for name in shards]


def open_documents(path: Path) -> pq.ParquetFile:
    """Open a document shard, its contract checked; read it with `iter_batches`.

    Raises:
        ShardError: torn, foreign or of a newer version.
    """
    try:
        # pre_buffer would keep every row group that was read
        file = pq.ParquetFile(files.reading(path), pre_buffer=False)
    except (OSError, ValueError) as error:
        raise ShardError(
            f"{path}: not a whole Parquet file ({error}); delete it and run the stage that wrote it again"
        ) from error
    check(file.schema_arrow.metadata, DOCUMENTS, path)
    return file


def values_in(path: Path, name: str) -> int:
    """How many values a document shard has in a column, by Parquet's name for it, as its footer says."""
    metadata = open_documents(path).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    found = [column for column in columns if column.path_in_schema == name]
    # A row group without a row, as of a shard whose documents were all dropped, has no statistics.
    return sum(column.num_values - column.statistics.null_count for column in found if column.statistics)


def _write_shard(function: ShardFunction, stage: Stage, unit: Unit) -> str | None:
    draft = Draft(stage.out, unit.number, stage.digest_of(unit))
    try:
        function(unit, draft)
        draft.commit()
    except ShardError as error:
        draft.discard()
        return str(error)
    except OSError:  # a full disk: what is half-written must not fill it further
        draft.discard()
        raise
    return None


def _drop_leftovers(out: Path, made: dict[int, Proof]) -> None:
    keep = {shard.name for proof in made.values() for shard in proof.shards}
    for path in files.inside(out):
        if _OURS.match(path.name) and path.name not in keep:
            path.unlink()
    proofs = {proof_path(out, number) for number in made}
    for path in (out / REJECTS_FOLDER).glob("*.parquet"):
        if path not in proofs:
            path.unlink()
