"""Pictures that a source brings along: where their bytes lie, so that `download` need not ask the network.

A carrier is written by a source alone. It is never read out of an upstream field: a foreign row must not be
able to name a file of this machine.
"""

import os
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import orjson

from lcl_data.files import opened, place
from lcl_data.records import record_at
from lcl_data.responses import MAX_HTTP_HEADERS, response_of
from lcl_data.tiff import Tiff, frames, single
from schemas.errors import ImageError, SourceError

SCHEME = "carried:"  # of the URL a source makes for a picture that upstream gave none


@dataclass(frozen=True, slots=True)
class Carrier:
    """Where the encoded bytes of one picture lie.

    Attributes:
        path: of the file, absolute: on disk or in object storage.
        offset: of the first byte in that file.
        nbytes: how many; None for all up to the end.
        frame: number of the picture among the frames of the TIFF that lies there; None where the bytes are
            the picture.
        is_record: what lies there is a record of a web archive, whose payload is the picture.
    """

    path: str
    offset: int = 0
    nbytes: int | None = None
    frame: int | None = None
    is_record: bool = False

    def __str__(self) -> str:
        """As it stands in the column `carrier` of a document's images."""
        return orjson.dumps([self.path, self.offset, self.nbytes, self.frame, self.is_record]).decode()

    @classmethod
    def parse(cls, text: str) -> "Carrier":
        """The inverse of `str`."""
        return cls(*orjson.loads(text))

    def read(self, max_nbytes: int) -> bytes:
        """The picture's encoded bytes, at most `max_nbytes` of them.

        Raises:
            ImageError: `carrier_missing`, `carrier_torn`, `too_large`, or what is wrong with TIFF or record.
        """
        try:
            with opened(place(self.path), is_near=True) as file:
                if self.is_record:
                    return self._payload(file, max_nbytes)
                return self._range(file, max_nbytes) if self.frame is None else self._frame(file, max_nbytes)
        except OSError as error:
            raise ImageError("carrier_missing", f"{self.path}: {error}") from error

    def _range(self, file: BinaryIO, max_nbytes: int) -> bytes:
        file.seek(self.offset)
        content = file.read(max_nbytes + 1 if self.nbytes is None else min(self.nbytes, max_nbytes + 1))
        if len(content) > max_nbytes:
            raise ImageError("too_large", f"{self.path}: more than {max_nbytes} bytes at {self.offset}")
        if self.nbytes is not None and len(content) < self.nbytes:
            raise ImageError("carrier_torn", f"{self.path}: ends within the picture at {self.offset}")
        return content

    def _payload(self, file: BinaryIO, max_nbytes: int) -> bytes:
        record = record_at(file, self.offset, max_nbytes + MAX_HTTP_HEADERS)
        if record is None:
            raise ImageError("carrier_torn", f"{self.path}: no whole record at {self.offset}")
        if record.nbytes > len(record.block):
            raise ImageError("too_large", f"{self.path}: {record.nbytes} bytes at {self.offset}")
        try:
            return response_of(record).body(max_nbytes)
        except SourceError as error:
            raise ImageError(error.reason, f"{self.path}: {error.detail} at {self.offset}") from error

    def _frame(self, file: BinaryIO, max_nbytes: int) -> bytes:
        rest = file.seek(0, os.SEEK_END) - self.offset
        if self.nbytes is not None and rest < self.nbytes:
            raise ImageError("carrier_torn", f"{self.path}: ends within the TIFF at {self.offset}")
        tiff = Tiff(file, self.offset, rest if self.nbytes is None else self.nbytes)
        frame = next(islice(frames(tiff), self.frame, None), None)
        if frame is None:
            raise ImageError("truncated", f"{self.path}: no frame {self.frame} in the TIFF at {self.offset}")
        return single(tiff, frame, max_nbytes)


def carried_url(container: str, member: str) -> str:
    """The URL of a picture that upstream gave none: unique, and fetched from nowhere.

    Args:
        container: name of the upstream file, as ids and rejects have it.
        member: of the picture in it.
    """
    return f"{SCHEME}{container}/{member}"
