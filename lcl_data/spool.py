"""A shard of the image store in the making: pictures come as the network brings them, leave in order of URLs.

They wait on disk with their rows, not in memory, because one slow host holds up a whole shard; the tar is
then written in one pass, so that its bytes do not depend on who answered first.
"""

from base64 import b64decode, b64encode
from typing import Any

import orjson

from lcl_data import files
from lcl_data.draft import Draft
from lcl_data.fetch import Fetched
from lcl_data.outcomes import publish
from lcl_data.pictures import Prepared
from lcl_data.store import Row, TarWriter, member_json
from lcl_data.urls import Url
from schemas.images import FAILED_TO_DOWNLOAD, FAILED_TO_RESIZE, IMAGES, SUCCESS


class Spool:
    """What is known so far about the URLs of one shard."""

    def __init__(self, draft: Draft, urls: list[Url], digits: int, made_by: str) -> None:
        """`digits` number a picture in its shard's keys; `made_by` is the digest of the settings."""
        self._draft = draft
        self._urls: list[Url | None] = [*urls]  # until they have an outcome
        self._made_by = made_by
        self._digits = digits
        self._places: dict[int, tuple[int, int, int]] = {}  # of outcomes: start, length of picture and row
        self._file = files.temporary(draft.folder / f"{draft.number:05d}.spool").open("w+b")
        self._end = 0

    @property
    def draft(self) -> Draft:
        """The shard's files and ledger."""
        return self._draft

    def missing(self) -> list[tuple[int, Url]]:
        """The URLs without an outcome, and their numbers."""
        return [(index, url) for index, url in enumerate(self._urls) if url is not None]

    @property
    def is_complete(self) -> bool:
        """Whether every URL has an outcome."""
        return len(self._places) == len(self._urls)

    def store(self, index: int, picture: Prepared, http_status: int | None, nbytes: int) -> None:
        """Keep the picture of URL number `index`; `nbytes` is the length of the original file."""
        facts = {name: getattr(picture, name) for name in Prepared.__slots__ if name != "content"}
        row = self._row(index, SUCCESS) | facts
        row |= {"http_status": http_status, "original_nbytes": nbytes}
        self.keep(index, row, picture.content)

    def fail(self, index: int, fetched: Fetched) -> None:
        """Note why there is no picture for URL number `index`: not fetched, or fetched and not usable."""
        content = fetched.content
        row = self._row(index, FAILED_TO_DOWNLOAD if content is None else FAILED_TO_RESIZE)
        row |= {"reason": fetched.reason, "error_message": fetched.detail, "http_status": fetched.http_status}
        self.keep(index, row | {"original_nbytes": None if content is None else len(content)}, b"")

    def keep(self, index: int, row: Row, content: bytes) -> None:
        """Take over a whole row, and the picture it speaks of (empty for a failure)."""
        picture = content if row["status"] == SUCCESS else b""
        row = row | {"key": self._key(index), "references": self._url(index).references}
        told = orjson.dumps(row | {"offset": None, "nbytes": len(picture) or None}, default=_as_text)
        self._file.write(picture)
        self._file.write(told)
        self._places[index] = self._end, len(picture), len(told)
        self._end += len(picture) + len(told)
        self._urls[index] = None

    def write(self) -> None:
        """Write tar, table, statistics and ledger of the complete shard and publish them."""
        rows: list[Row] = []
        members = 0
        with self._draft.path(".tar").open("wb") as file:
            tar = TarWriter(file)
            for _, (start, nbytes, told) in sorted(self._places.items()):
                self._file.seek(start)
                picture, row = self._file.read(nbytes), _read_back(self._file.read(told))
                if row["status"] == SUCCESS:
                    row["offset"] = tar.add(f"{row['key']}.jpg", picture)
                    tar.add(f"{row['key']}.json", member_json(row))
                    members += 1
                rows.append(row)
            tar.close()
        publish(self._draft, rows, members, self._made_by)
        self.discard()

    def discard(self) -> None:
        """Remove what waits on disk."""
        self._file.close()
        files.temporary(self._draft.folder / f"{self._draft.number:05d}.spool").unlink(missing_ok=True)

    def _row(self, index: int, status: str) -> Row:
        return dict.fromkeys(IMAGES.names) | {"url": self._url(index).url, "status": status}

    def _url(self, index: int) -> Url:
        url = self._urls[index]
        if url is None:
            raise LookupError(f"URL {index} of shard {self._draft.number} has an outcome already")
        return url

    def _key(self, index: int) -> str:
        return f"{self._draft.number:05d}{index:0{self._digits}d}"


def _as_text(value: Any) -> str:
    """Bytes as JSON can hold them."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def _read_back(told: bytes) -> Row:
    row: Row = orjson.loads(told)
    opaque = row["opaque"]
    return row if opaque is None else row | {"opaque": b64decode(opaque)}
