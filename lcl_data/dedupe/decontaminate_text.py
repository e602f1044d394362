"""Evaluation texts in the training corpus: what a model was tested on it must not have read."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from lcl_data.dedupe import ExactRule, Kind
from lcl_data.evaluation_texts import EvaluationTexts, index, unread
from lcl_data.frames import TEXTS, Frames
from lcl_data.shingles import joined, mixed, ngrams, words


class DecontaminateText(ExactRule):
    """Documents, or text items, that share a run of `ngram` words with an evaluation set.

    13 words are the common choice (datatrove: 12). Words are compared in lower case, without punctuation,
    across text items; of scripts without spaces (Chinese, Japanese, Thai) each character is one: ask for more
    of them. A match is verified by a second hash of 64 bits. `remove: text` drops the items that a
    shared run touches. Texts of the set with fewer words are not looked for. Rows of JSON lines and Parquet
    give every string in them, or those of `fields`; a .txt is one text. `decisions/` names the row met.
    """

    compares: ClassVar[Literal["documents"]] = "documents"
    reads = ("id", TEXTS)
    against: EvaluationTexts = Field(
        description="evaluation set: a .txt, .jsonl or .parquet, or a folder of them"
    )
    fields: tuple[str, ...] = Field((), description="names of the fields to compare; all where none is named")
    ngram: int = Field(13, ge=1, le=64, description="words in a row that give a document away")
    remove: Literal["document", "text"] = Field("document", description="what is dropped")

    @property
    def drops(self) -> Kind:
        """As `remove` says."""
        return "documents" if self.remove == "document" else "texts"

    def notes(self) -> list[str]:
        """Files of the set that are not read, rows that are too short to be looked for."""
        held = index(self.against, self.fields, self.ngram)
        told = (
            f"{held.short:,} of {held.rows:,} rows have no text of {self.ngram} words and are not looked for"
        )
        return [*unread(self.against), *([told] if held.short else [])]

    def keys(self, frames: Frames) -> pl.DataFrame:
        """A row per document or text item that meets the set, with the first row of it that it meets."""
        held = index(self.against, self.fields, self.ngram)
        texts, documents = frames.texts, frames.documents
        items = words(texts["text"])
        ends = texts["document"].search_sorted(documents["document"], side="right").to_numpy()
        found = ngrams(joined(items, ends), self.ngram)
        hits, entries = held.find(found, items.values, self.ngram)
        # Every word of a run, and the text item that holds it.
        touched = (found.firsts[hits][:, None] + np.arange(self.ngram)).ravel()
        met = texts.select("document", "item")[np.searchsorted(items.ends, touched, side="right")]
        names = pl.Series("kept_id", held.names, pl.String)[np.repeat(entries, self.ngram)]
        return self._rows(met.with_columns(names), documents.select("document", "id"))

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What met the set: nothing of the corpus stays for it."""
        return rows.select("document", "item", "id", "kept_id")

    def _rows(self, met: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
        place = ["document", "item"]
        if self.remove == "document":
            met = met.with_columns(item=pl.lit(None, pl.Int32))
        rows = met.unique(place, keep="first", maintain_order=True).join(
            ids, on="document", maintain_order="left"
        )
        return rows.with_columns(key=pl.Series(mixed(rows["document"].to_numpy()), dtype=pl.UInt64))
