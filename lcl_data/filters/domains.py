"""Cut documents or pictures by the site they come from."""

import re
from functools import lru_cache, partial
from typing import Literal, Self

import polars as pl
from pydantic import Field, model_validator

from lcl_data.filters import Filter
from lcl_data.wordlists import ListFile, entries


class Domains(Filter):
    """Lists of sites to deny, or alone to allow.

    An entry is a host name, which stands for its subdomains too (`example.org` or `*.example.org` for
    `www.example.org`, not for `badexample.org`), or, with a path, one address (`example.org/ads/1.html`;
    scheme, `www.`, port, query, fragment and a slash at the end do not count). Nothing is denied by default:
    FineWeb's list (section 3.1) is the University of Toulouse's, which the user may download. A row without
    an address is `unmeasured`.
    """

    level: Literal["document", "image"] = Field("document", description="whose address is looked up")
    deny: tuple[str, ...] = Field((), description="rows from these sites are rejected")
    deny_file: ListFile | None = Field(None, description="the same as a file, one entry a line")
    allow: tuple[str, ...] = Field((), description="where given, rows from other sites are rejected")
    allow_file: ListFile | None = Field(None, description="the same as a file, one entry a line")

    @property
    def applies_to(self) -> Literal["document", "image"]:  # type: ignore[override]  # a setting, no constant
        """The level."""
        return self.level

    def facts(self) -> dict[str, pl.Expr]:
        """address: host and path in lower case, without `www.`; null where there is none."""
        bare = pl.col("url").str.to_lowercase().str.extract(r"^[a-z][a-z0-9+.-]*://([^?#]+)")
        host = (
            bare.str.replace(r"^[^/@]*@", "").str.replace(r"^www\.", "").str.replace(r"^([^/:]*):\d*", "$1")
        )
        return {"address": host.str.strip_chars_end("/").replace("", None)}

    def reasons(self) -> dict[str, pl.Expr]:
        """denied, not_allowed."""
        reasons = {}
        if self.deny or self.deny_file:
            reasons["denied"] = _is_listed(self.deny, self.deny_file)
        if self.allow or self.allow_file:
            reasons["not_allowed"] = ~_is_listed(self.allow, self.allow_file)
        return reasons

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.deny or self.deny_file or self.allow or self.allow_file):
            raise ValueError("give a list: deny, deny_file, allow or allow_file")
        listed = {*self.deny, *self.allow}.union(
            *map(entries, filter(None, (self.deny_file, self.allow_file)))
        )
        if odd := sorted(entry for entry in listed if len(entry.split()) != 1):
            raise ValueError(
                f"{odd[0]!r} is no host and no address; one of them is an entry, one entry a line"
            )
        return self


def _is_listed(listed: tuple[str, ...], file: ListFile | None) -> pl.Expr:
    return pl.col("address").map_batches(partial(_look_up, listed, file), return_dtype=pl.Boolean)


def _look_up(listed: tuple[str, ...], file: ListFile | None, addresses: pl.Series) -> pl.Series:
    known = _bared(frozenset(listed)), _bared(entries(file) if file else frozenset())
    found = [None if address is None else _stands(known, address) for address in addresses]
    return pl.Series(addresses.name, found, dtype=pl.Boolean)


@lru_cache(maxsize=8)
def _bared(listed: frozenset[str]) -> frozenset[str]:
    """The entries as addresses are written; kept, because a list has millions and a batch a thousand rows."""
    return frozenset(map(_bare, listed))


def _stands(known: tuple[frozenset[str], ...], address: str) -> bool:
    covers = _covers(address)
    return not all(each.isdisjoint(covers) for each in known)


def _bare(entry: str) -> str:
    """An entry as an address is written."""
    bare = re.split("[?#]", entry.strip().lower())[0].rpartition("://")[2].removeprefix("//")
    bare = re.sub(r"^[^/@]*@", "", bare).removeprefix("*.").removeprefix("www.")
    return re.sub(r"^([^/:]*):\d*", r"\1", bare).rstrip("/")


def _covers(address: str) -> list[str]:
    """The entries that would stand for an address: itself, its host and the domains above that."""
    labels = address.partition("/")[0].split(".")
    return [address, *(".".join(labels[start:]) for start in range(len(labels)))]
