"""What a web server answered, as an archive holds it: status, headers, and the body as it was meant.

Archives differ from the wire: some hold the body with its transfer and content encodings already undone, but
with the headers that announce them. So an encoding is undone only where the body looks encoded.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from lcl_data.records import Record
from schemas.errors import SourceError

MAX_HTTP_HEADERS = 1 << 16  # bytes that are read for them, on top of the body
_BLOCK = 1 << 16
_MAX_CHUNK_LINE = 1000
_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of a server.

    Attributes:
        status: of HTTP; 200 for a resource that came without.
        headers: values by name in lower case.
        content: the body, encoded as the headers say.
    """

    status: int
    headers: dict[str, list[str]]
    content: bytes

    def header(self, name: str) -> str:
        """The last value of a header; empty if there is none."""
        return self.headers.get(name, [""])[-1]

    @property
    def kind(self) -> str:
        """The type of the content, such as text/html; empty if not told."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """As the type of the content states it."""
        for part in self.header("content-type").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'") or None
        return None

    def body(self, max_nbytes: int) -> bytes:
        """The body with its encodings undone; of a torn one what there is.

        Raises:
            SourceError: `too_large`, whatever it would inflate to, or `bad_encoding`.
        """
        content = self.content
        if "chunked" in self.header("transfer-encoding").lower():
            content = _unchunked(content)
        for name in reversed(self.header("content-encoding").lower().replace(" ", "").split(",")):
            content = _decoded(name, content, max_nbytes)
        if len(content) > max_nbytes:
            raise SourceError("too_large", f"more than {max_nbytes} bytes")
        return content


def response_of(record: Record) -> Response:
    """The answer in a record of type response or resource."""
    block = record.block
    if record.headers.get("warc-type") == "resource" or block[:5].upper() != b"HTTP/":
        return Response(200, {"content-type": [record.headers.get("content-type", "")]}, block)
    end = _END.search(block, 0, MAX_HTTP_HEADERS)
    head, content = (block[: end.start()], block[end.end() :]) if end else (block[:MAX_HTTP_HEADERS], b"")
    first, *lines = head.decode("utf-8", "replace").split("\n")
    words = first.split(None, 2)
    status = int(words[1]) if len(words) > 1 and words[1].isascii() and words[1].isdigit() else 0
    return Response(status, _headers(lines), content)


def _headers(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if line[:1] in (" ", "\t") and name:
            found[name][-1] += " " + line.strip()
            continue
        name, _, value = line.partition(":")
        name = name.strip().lower()
        found.setdefault(name, []).append(value.strip())
    return found


def _unchunked(content: bytes) -> bytes:
    """The body of a chunked transfer; the content itself where it is in no chunks."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = content.find(b"\n", at, at + _MAX_CHUNK_LINE)
        size = content[at:end].partition(b";")[0].strip() if end >= 0 else b""
        try:
            nbytes = int(size, 16) if size and not size.startswith((b"-", b"+")) else -1
        except ValueError:
            nbytes = -1
        if nbytes < 0:
            return b"".join(parts) if parts else content
        if nbytes == 0:
            return b"".join(parts)
        parts.append(content[end + 1 : end + 1 + nbytes])
        at = end + 1 + nbytes
        at += 2 if content[at : at + 2] == b"\r\n" else 1


def _decoded(encoding: str, content: bytes, max_nbytes: int) -> bytes:
    if encoding in ("", "identity", "utf-8", "none") or not content:
        return content
    if encoding in ("gzip", "x-gzip"):
        return _inflated(content, 31, max_nbytes) if content.startswith(b"\x1f\x8b") else content
    if encoding == "deflate":
        is_zlib = content[0] & 0x0F == 8 and int.from_bytes(content[:2], "big") % 31 == 0
        return _inflated(content, 15 if is_zlib else -15, max_nbytes)
    if encoding == "br":
        return _unbrotlied(content, max_nbytes)
    raise SourceError("bad_encoding", f"Content-Encoding {encoding[:40]}")


def _inflated(content: bytes, window: int, max_nbytes: int) -> bytes:
    inflate = zlib.decompressobj(window)
    parts: list[bytes] = []
    size = 0
    try:
        while content and not inflate.eof:
            parts.append(inflate.decompress(content, _BLOCK))
            size += len(parts[-1])
            content = inflate.unconsumed_tail
            if size > max_nbytes:
                raise SourceError("too_large", f"inflates to more than {max_nbytes} bytes")
    except zlib.error as error:
        if not size:
            raise SourceError("bad_encoding", str(error)) from None
    return b"".join(parts)


def _unbrotlied(content: bytes, max_nbytes: int) -> bytes:
    import brotli

    decoder = brotli.Decompressor()
    decompress: Callable[..., bytes] = decoder.process
    parts: list[bytes] = []
    size = 0
    try:
        found = decompress(content, output_buffer_limit=_BLOCK)
        while found or not decoder.can_accept_more_data():
            parts.append(found)
            size += len(found)
            if size > max_nbytes:
                raise SourceError("too_large", f"inflates to more than {max_nbytes} bytes")
            found = decompress(b"", output_buffer_limit=_BLOCK)
    except brotli.error as error:
        if not size:
            raise SourceError("bad_encoding", str(error)) from None
    return b"".join(parts)
