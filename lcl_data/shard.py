"""The last stage of the data half: documents and their pictures become the training shards.

One input shard gives one output shard in every container asked for; nothing but documents, image store and
tokenizer decides its bytes.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from lcl_data import files
from lcl_data.card import Origins, write_cards
from lcl_data.containers import INDEX_SUFFIX, open_writers, suffixes_of
from lcl_data.draft import Draft
from lcl_data.energon import write_sidecar
from lcl_data.engine import Engine
from lcl_data.foreign import accept
from lcl_data.frames import sound_units
from lcl_data.sequence import Budget, Row, sequences
from lcl_data.shards import Container
from lcl_data.stage import (
    DOCUMENTS_FROM,
    IMAGES_FROM,
    Stage,
    Unit,
    document_units,
    input_of,
    open_documents,
    settings_of,
)
from lcl_data.store import read_pictures
from lcl_data.tokenizer import Tokenizer, load
from schemas.documents import Document, Image, from_row
from schemas.errors import RecipeError, ShardError
from schemas.manifest import Input, Manifest
from schemas.recipe import Settings

# Documents whose pictures are in memory at once: 64 of at most 40 pictures of 30 kB are 75 MB.
_BATCH_ROWS = 64

Contents = dict[str, tuple[bytes, str]]  # by key: encoded bytes, and sha256 hex of them


class Shard(Settings):
    """Settings of `lcl shard`."""

    name: str = Field("interleaved-sequences", description="of the dataset, for its card")
    tokenizer: str = Field("clip", description="`clip`, or the path of a tokenizer.json")
    containers: tuple[Container, ...] = Field(
        ("arrow", "webdataset"), min_length=1, description="file formats; the rows are the same in all"
    )
    max_tokens: int = Field(2048, description="slots of a row; a longer document goes on in further rows")
    image_slots: int = Field(66, gt=0, description="slots a picture takes of it: visual tokens + 2")

    @model_validator(mode="after")
    def _one_picture_fits(self) -> Self:
        if self.max_tokens < self.image_slots + 2:
            raise ValueError(
                f"max_tokens {self.max_tokens}: too few for one picture of {self.image_slots} slots and the "
                f"start and end token; at least {self.image_slots + 2}"
            )
        return self

    @property
    def budget(self) -> Budget:
        """Of one row."""
        return Budget(self.max_tokens, self.image_slots)


def shard(docs: Path, images: Path, out: Path, settings: Shard, engine: Engine) -> Manifest:
    """Write the training shards of a folder of documents.

    Args:
        docs: documents whose images carry their key in the store (after `lcl filter --images`).
        images: the image store, or a folder that img2dataset made.
        out: the folder to fill; beside the shards it gets tokenizer.json, a card and Energon's sidecar.
        settings: tokenizer, containers and lengths.
        engine: where the work runs.

    Returns:
        The manifest; its `failed` names the shards that were torn.

    Raises:
        RecipeError: the tokenizer cannot be had, or `out` holds something foreign.
        ShardError: `docs` or `images` is no finished stage folder.
    """
    _need_keys(docs)
    notes = accept(images, engine)
    stage = stage_of(docs, images, out, settings)
    manifest = stage.finished() or stage.run(
        partial(write_shard, settings, images), document_units(docs), engine, notes
    )
    _write_companions(docs, out, manifest, settings.name, load(settings.tokenizer))
    return manifest


def stage_of(docs: Path, images: Path, out: Path, settings: Shard) -> Stage:
    """The stage as `shard` is about to fill it."""
    digest = hashlib.sha256(load(settings.tokenizer).published.encode()).hexdigest()
    inputs = (
        input_of("documents", docs, DOCUMENTS_FROM),
        input_of("images", images, IMAGES_FROM),
        Input(name="tokenizer", digest=digest),
    )
    named = {**settings_of(settings), "tokenizer": Path(settings.tokenizer).name}
    return Stage("shard", out, named, inputs)


def _need_keys(docs: Path) -> None:
    """Refuse documents whose first picture was never looked up in a store.

    Raises:
        RecipeError: with the command that attaches pictures.
    """
    whole = [unit.payload for unit in sound_units(docs)[0] if unit.payload]
    batches = (
        batch
        for path in whole
        for batch in open_documents(path).iter_batches(columns=["items"], use_threads=False)
    )
    for batch in batches:
        pictures = pc.struct_field(pc.list_flatten(batch.column("items")), "image").drop_null()
        if len(pictures) and pictures[0]["key"].as_py() is None:
            raise RecipeError(f"{docs}: its pictures are not attached; run `lcl filter` with --images STORE")
        if len(pictures):
            return


def write_shard(settings: Shard, images: Path, unit: Unit, draft: Draft) -> None:
    """Write one shard from the document shard at `unit.payload`; the shard function of this stage."""
    tokenizer = load(settings.tokenizer)
    suffixes = suffixes_of(settings.containers)
    paths = {suffix: draft.path(suffix) for suffix in suffixes}
    count = 0
    with ExitStack() as stack:
        writers = open_writers(settings.containers, paths, tokenizer.special)
        for writer in writers:
            stack.enter_context(closing(writer))
        for row in _rows(unit.payload, images, settings.budget, tokenizer, draft):
            count += 1
            for writer in writers:
                writer.write(row)
    for suffix in suffixes:
        draft.rows(suffix, count)


def _rows(path: Path, images: Path, budget: Budget, tokenizer: Tokenizer, draft: Draft) -> Iterator[Row]:
    for documents in _documents(path):
        keys = {image.key for document in documents for image in document.images if image.key}
        contents: Contents = {
            key: (content, _sha256(content)) for key, content in read_pictures(images, keys).items()
        }
        for document in documents:
            unchanged = _unchanged(document, contents)
            rows = sequences(document, unchanged, tokenizer, budget)
            _count(document, contents, unchanged, bool(rows), draft)
            yield from rows


def _unchanged(document: Document, contents: Contents) -> Contents:
    """The pictures of a document whose bytes are those that were attached: a key is a place in the store, and
    after another list of URLs another picture lies there.
    """
    return {
        image.key: contents[image.key]
        for image in document.images
        if image.key is not None and image.key in contents and image.sha256 in (None, contents[image.key][1])
    }


def _documents(path: Path) -> Iterator[list[Document]]:
    file = open_documents(path)
    try:
        for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
            yield [from_row(row) for row in batch.to_pylist()]
    except pa.ArrowInvalid as error:
        raise ShardError(
            f"{path}: damaged ({error}); delete it and run the stage that wrote it again"
        ) from error


def _count(document: Document, stored: Contents, unchanged: Contents, is_kept: bool, draft: Draft) -> None:
    """Enter a document and its image references into the ledger."""
    documents, images = draft.count("documents"), draft.count("images")
    documents.read += 1
    for number, item in enumerate(document.items):
        if not isinstance(item, Image):
            continue
        images.read += 1
        if item.key in unchanged:
            images.kept += 1
            continue
        reason = "image_changed" if item.key in stored else "image_missing"
        draft.reject("images", reason, id=document.id, item=number, url=item.url)
    if is_kept:
        documents.kept += 1
    else:
        draft.reject("documents", "empty", id=document.id, url=document.url)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_companions(docs: Path, out: Path, manifest: Manifest, name: str, tokenizer: Tokenizer) -> None:
    """Write what stands beside the shards; each follows from the manifest, so that a rerun mends them."""
    files.sweep(out)  # of a run that was killed between the manifest and the last of these
    ours = {shard.name for shard in manifest.shards}
    for path in out.glob(f"*{INDEX_SUFFIX}"):
        if path.name not in ours:
            path.unlink()
    files.write(out / "tokenizer.json", tokenizer.published.encode())
    whole = [unit.payload for unit in document_units(docs) if unit.name not in manifest.failed]
    write_cards(out, manifest, tokenizer.special, name, _origins(whole))
    write_sidecar(out, manifest)


def _origins(paths: list[Path]) -> Origins:
    """How many documents came from which source under which licence."""
    counts: Origins = {}
    for path in paths:
        table = pq.read_table(files.reading(path), columns=["source", "license"])
        for row in table.group_by(["source", "license"]).aggregate([([], "count_all")]).to_pylist():
            key = (row["source"], row["license"] or "not stated")
            counts[key] = counts.get(key, 0) + row["count_all"]
    return dict(sorted(counts.items()))
