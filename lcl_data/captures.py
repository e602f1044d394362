"""Which pictures some web archives hold: 20 bytes each in memory, found by the hash of their URL."""

from array import array
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, urldefrag

import numpy as np
import xxhash

from lcl_data.carriers import Carrier
from lcl_data.records import Headers, Record, records
from lcl_data.responses import response_of
from lcl_data.robots import directives
from schemas.errors import SourceError

_HEAD_NBYTES = 1 << 14  # of a response, for its headers
_OPTED_OUT = (1 << 64) - 1  # in place of an offset
_KEPT_AS_WRITTEN = "%/:=&?~#+!$,;'@()*[]"


class Captures:
    """The pictures of some archives; of several captures of one URL the first, in order of the files."""

    def __init__(self, paths: tuple[Path, ...], disallowed: Collection[str]) -> None:
        """Look at every record of the archives.

        Args:
            paths: of the files.
            disallowed: directives of X-Robots-Tag headers that are a no.

        Raises:
            ShardError: one of them is no web archive.
        """
        self._paths = [str(path.resolve()) for path in paths]
        hashes, files, offsets = array("Q"), array("I"), array("Q")
        for number, path in enumerate(paths):
            for record in records(path, _wanted):
                if not isinstance(record, Record) or record.offset is None or not record.block:
                    continue
                response = response_of(record)
                if response.status == 200 and response.kind.startswith("image/"):
                    no = directives(response.headers.get("x-robots-tag", [])).intersection(disallowed)
                    hashes.append(_hash(record.headers.get("warc-target-uri", "").strip("<>")))
                    files.append(number)
                    offsets.append(_OPTED_OUT if no else record.offset)
        found, first = np.unique(np.frombuffer(hashes, np.uint64), return_index=True)
        self._hashes = found
        self._files = np.frombuffer(files, np.uint32)[first]
        self._offsets = np.frombuffer(offsets, np.uint64)[first]

    def carrier_of(self, url: str) -> Carrier | None:
        """Where the picture at an absolute URL lies, if it is there.

        Raises:
            SourceError: `opted_out`, by the answer that is there.
        """
        wanted = _hash(url)
        at = int(np.searchsorted(self._hashes, np.uint64(wanted)))
        if at == len(self._hashes) or int(self._hashes[at]) != wanted:
            return None
        if self._offsets[at] == _OPTED_OUT:
            raise SourceError("opted_out", f"X-Robots-Tag of {url[:200]}")
        return Carrier(self._paths[self._files[at]], int(self._offsets[at]), is_record=True)


def _wanted(headers: Headers) -> int:
    return _HEAD_NBYTES if headers.get("warc-type") in ("response", "resource") else 0


def _hash(url: str) -> int:
    """Of a URL without scheme and fragment, its characters escaped as crawlers escape them."""
    plain = quote(urldefrag(url).url, safe=_KEPT_AS_WRITTEN, errors="replace")
    return xxhash.xxh3_64_intdigest((plain.partition("://")[2] or plain).encode())
