"""Which contract and version a file follows, written into the file itself and checked when it is opened.

An additive change keeps the version; a renamed, removed or re-defined column raises it.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

import pyarrow as pa

from schemas.errors import ShardError

SCHEMA_KEY = b"lcl.schema"


@cache
def release() -> str:
    """The version of LCL, part of every digest: another one makes its bytes anew."""
    return version("lcl")


def stamp(schema: pa.Schema, name: str, version: int) -> pa.Schema:
    """The schema with its contract's name and version in the metadata, as `lcl.schema: name/version`."""
    return schema.with_metadata({**(schema.metadata or {}), SCHEMA_KEY: f"{name}/{version}".encode()})


def check(metadata: Mapping[bytes, bytes] | None, expected: pa.Schema, where: object) -> None:
    """Refuse a file that follows another contract than `expected`, or a newer version of it.

    Args:
        metadata: the file's schema metadata.
        expected: one of the stamped schemas of this room.
        where: the file, for the message.

    Raises:
        ShardError: naming the file, what it is, and what to do.
    """
    name, version = expected.metadata[SCHEMA_KEY].decode().split("/")
    found = (metadata or {}).get(SCHEMA_KEY, b"").decode()
    found_name, _, found_version = found.partition("/")
    if not found:
        raise ShardError(
            f"{where}: not written by LCL (no '{SCHEMA_KEY.decode()}' in its metadata); expected {name}"
        )
    if found_name != name:
        raise ShardError(f"{where}: holds {found_name}, not {name}; is it the folder of another stage?")
    if not found_version.isdigit() or int(found_version) > int(version):
        raise ShardError(
            f"{where}: {name} of version {found_version}, this LCL reads up to {version}; upgrade lcl"
        )
