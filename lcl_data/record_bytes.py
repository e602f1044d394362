"""Bytes of a web archive, plain or of one gzip member, read as they are asked for."""

import os
import zlib
from typing import BinaryIO, Protocol

GZIP = b"\x1f\x8b\x08"
BLOCK = 1 << 15
MAX_LINE = 1 << 16


class Torn(Exception):
    """What is wrong with a record."""


class Reader(Protocol):
    """Bytes in order."""

    def line(self) -> bytes:
        """A line with its end; empty at the end of what can be read."""

    def take(self, count: int) -> bytes:
        """So many bytes; fewer at the end."""

    def skip(self, count: int) -> int:
        """Leave out so many bytes; returns how many were there."""


class Plain:
    """Bytes of a file that is not compressed."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._size = file.seek(0, os.SEEK_END)
        file.seek(offset)
        self._file = file

    def line(self) -> bytes:
        """A line with its end; empty at the end of what can be read."""
        return self._file.readline(MAX_LINE)

    def take(self, count: int) -> bytes:
        """So many bytes; fewer at the end."""
        return self._file.read(min(count, self._size))

    def skip(self, count: int) -> int:
        """Leave out so many bytes; returns how many were there."""
        at = self._file.tell()
        return self._file.seek(min(at + count, self._size)) - at


class Member:
    """Bytes of one gzip member, inflated as they are asked for: a bomb costs time, never memory."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        file.seek(offset)
        self._file = file
        self._inflate = zlib.decompressobj(31)
        self._data = b""

    @property
    def end(self) -> int:
        """Where the next member begins, once this one is read to its end."""
        return self._file.tell() - len(self._inflate.unused_data)

    def line(self) -> bytes:
        """A line with its end; empty at the end of what can be read."""
        while (at := self._data.find(b"\n")) < 0 and len(self._data) < MAX_LINE and self._more():
            pass
        return self._cut(at + 1 if at >= 0 else min(len(self._data), MAX_LINE))

    def take(self, count: int) -> bytes:
        """So many bytes; fewer at the end."""
        parts = []
        while count > 0 and (self._data or self._more()):
            parts.append(self._cut(min(count, len(self._data))))
            count -= len(parts[-1])
        return b"".join(parts)

    def skip(self, count: int) -> int:
        """Leave out so many bytes; returns how many were there."""
        rest = count
        while rest > 0 and (found := self.take(min(rest, BLOCK))):
            rest -= len(found)
        return count - rest

    def _cut(self, count: int) -> bytes:
        found, self._data = self._data[:count], self._data[count:]
        return found

    def _more(self) -> bool:
        """Inflate a bit more; whether there was any."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(BLOCK)
            if not packed:
                raise Torn("ends within a gzip member")
            try:
                found = self._inflate.decompress(packed, BLOCK)
            except zlib.error as error:
                raise Torn(f"damaged gzip member ({error})") from None
            if found:
                self._data += found
                return True
        return False


def reader_at(file: BinaryIO, offset: int) -> Reader:
    """Bytes of a file from an offset on, inflated if a gzip member begins there."""
    file.seek(offset)
    if file.read(3) == GZIP:
        return Member(file, offset)
    return Plain(file, offset)
