"""Web archives: WARC and ARC files of a crawl, with the pictures that the crawl took along."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from lcl_data.captures import Captures
from lcl_data.pages import Extraction, Located, Origin, located_on_the_net, need_libraries, row_of
from lcl_data.records import Headers, Record, Tear, records
from lcl_data.responses import MAX_HTTP_HEADERS, Response, response_of
from lcl_data.robots import directives
from lcl_data.sources import Files, Row, Source, find, name_of, numbered
from lcl_data.stage import Unit
from schemas.documents import document_id
from schemas.errors import SourceError

_ENDINGS = (".warc", ".warc.gz", ".arc", ".arc.gz")
_NUMBER = re.compile(r"(?<!\d)(?P<number>\d{1,6})\.w?arc(?:\.gz)?\Z")
_HTML = ("text/html", "application/xhtml+xml")
_UNTOLD = ("", "application/octet-stream", "unknown/unknown", "no-type")
_LOOKS_LIKE_HTML = re.compile(rb"\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype html|html|head)\b", re.IGNORECASE)
_KEPT_HEADERS = {"warc-date": "date", "warc-record-id": "warc_record_id", "warc-truncated": "warc_truncated"}


class Warc(Source):
    """Pages of HTML out of web archives.

    A document is a response (or resource) record whose content is HTML by its type, or by its first bytes
    where no type is told; records of other kinds are no documents. Answers other than 200 are rejected.
    A picture that the same file holds is carried: `download` reads it from there, without a network.
    A tear is a rejected document, `torn_record`; what stands before and behind it is kept.
    """

    files_per_shard: int = Field(
        1, gt=0, description="files read as one: pages find pictures in any file of their group, by name"
    )
    extract: Extraction = Field(default=Extraction(), description="what of a page is taken")

    def units(self, src: Path) -> list[Unit]:
        """One unit per file, or per so many."""
        need_libraries()
        found = [(name_of(path, src), path) for path in find(src, _ENDINGS)]
        root = src if src.is_dir() else src.parent
        if self.files_per_shard == 1:
            return numbered(((name, Files(root, (path,))) for name, path in found), _NUMBER)
        groups = [found[i : i + self.files_per_shard] for i in range(0, len(found), self.files_per_shard)]
        return [
            Unit(number, f"{group[0][0]} ... {group[-1][0]}", Files(root, tuple(path for _, path in group)))
            for number, group in enumerate(groups)
        ]

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every page of a file, in its order."""
        files: Files = unit.payload
        captures = Captures(files.paths, self.extract.disallowed)
        for path in files.paths:
            name = path.relative_to(files.root).as_posix()
            for number, record in enumerate(records(path, self._wanted)):
                if isinstance(record, Tear):
                    error = SourceError("torn_record", record.detail)
                    yield Row(f"{name}@{record.offset}", 0, 0, error)
                elif _may_be_page(record):
                    yield from self._rows(record, number, name, captures)

    def _wanted(self, headers: Headers) -> int:
        is_answer = headers.get("warc-type") in ("response", "resource")
        return self.extract.max_nbytes + MAX_HTTP_HEADERS if is_answer else 0

    def _rows(self, record: Record, number: int, name: str, captures: Captures) -> Iterator[Row]:
        response = response_of(record)
        place = f"{name}@{record.offset}" if record.offset is not None else f"{name}#{number}"
        try:
            if not _is_html(response):
                return
            if response.status != 200:
                raise SourceError(f"http_{response.status}", record.headers.get("warc-target-uri", "")[:200])
            if record.nbytes > len(record.block):
                raise SourceError("too_large", f"{record.nbytes} bytes")
            content = response.body(self.extract.max_nbytes)
        except SourceError as error:
            yield Row(place, len(record.block), 0, error)
            return
        origin = self._origin(record, response, place, name, document_id("warc", name, number))
        yield row_of(content, origin, self.extract, partial(_locate, captures))

    def _origin(self, record: Record, response: Response, place: str, name: str, id: str) -> Origin:
        told = {key: record.headers.get(header) for header, key in _KEPT_HEADERS.items()}
        meta: dict[str, Any] = {key: value for key, value in told.items() if value}
        meta |= {"warc_filename": name, "warc_record_offset": record.offset}
        url = record.headers.get("warc-target-uri", "").strip("<>") or None
        robots = frozenset(directives(response.headers.get("x-robots-tag", [])))
        return Origin("warc", id, place, url, response.charset, robots, self.license, meta)


def _may_be_page(record: Record) -> bool:
    return record.headers.get("warc-type") in ("response", "resource") and bool(record.block)


def _is_html(response: Response) -> bool:
    if response.kind in _UNTOLD:
        return bool(_LOOKS_LIKE_HTML.match(response.content[:2048]))
    return response.kind in _HTML


def _locate(captures: Captures, addresses: tuple[str, ...], base: str | None) -> Located:
    """The first address that the archive holds, else the best one."""
    for raw in addresses:
        try:
            located = located_on_the_net((raw,), base)
        except SourceError:
            continue
        if carrier := captures.carrier_of(located.url):
            return Located(located.url, str(carrier), raw)
    return located_on_the_net(addresses, base)
