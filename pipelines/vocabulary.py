"""The stage `tokenizer`: a byte-level BPE learnt from the text of documents, where CLIP's is not wanted."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc

from lcl_data import tokenizer
from lcl_data.stage import DOCUMENTS_FROM, Stage, document_units, input_of, open_documents
from schemas.recipe import TokenizerSection

TOKENIZER = "tokenizer.json"
_BATCH_ROWS = 256


def train_tokenizer(docs: Path, out: Path, settings: TokenizerSection) -> Path:
    """Learn a vocabulary, unless it was learnt from the same documents before.

    Args:
        docs: stage folder with documents.
        out: folder for tokenizer.json and its manifest.
        settings: size of the vocabulary.

    Returns:
        The tokenizer.json.
    """
    stage = stage_of(docs, out, settings)
    path = out / TOKENIZER
    if stage.finished():
        return path
    tokenizer.train(_texts(docs), settings.vocab_size, path)
    stage.seal([path])
    return path


def stage_of(docs: Path, out: Path, settings: TokenizerSection) -> Stage:
    """The stage as `train_tokenizer` is about to fill it."""
    inputs = (input_of("documents", docs, DOCUMENTS_FROM),)
    return Stage("tokenizer", out, settings.model_dump(), inputs, leaves=(TOKENIZER,))


def _texts(docs: Path) -> Iterator[str]:
    for unit in document_units(docs):
        for batch in open_documents(unit.payload).iter_batches(_BATCH_ROWS, columns=["items"]):
            items = pc.list_flatten(batch.column("items"))
            yield from pc.struct_field(items, "text").drop_null().to_pylist()
