"""Put tokens in the place of e-mail addresses, public IP addresses and telephone numbers."""

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from lcl_data.filters import Cleaner, measure

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_EMAIL = re.compile(
    rf"(?<![\w.+%-])(?P<value>[A-Za-z0-9][A-Za-z0-9_.+%'-]*@(?:{_LABEL}\.)+[A-Za-z]{{2,}})(?![\w-])"
)

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
# Numbers of versions and sections are written as addresses are: what stands before them tells.
_NUMBERED = (
    r"\b(?:v|vers?|versions?|release|build|oid|sections?|sec|chapter|figure|fig|table|step)\b\.?[ \u00a0]?"
    r"|§[ \u00a0]?"
)
_IPV4 = re.compile(
    rf"(?P<numbered>(?i:{_NUMBERED}))?(?<![\w.-])(?P<value>(?:{_OCTET}\.){{3}}{_OCTET})(?!\w|[.-]\d)",
    re.ASCII,
)
# Public addresses begin with 2 or 3 and four digits; the rest of what has colons is times, ratios, code.
_IPV6 = re.compile(
    r"(?<![\w:.])(?P<value>[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}[0-9A-Fa-f:])(?![\w:])", re.ASCII
)

_GAP = r"[ .\-\u2010\u2011\u00a0]"
_NORTH_AMERICAN = rf"(?:1{_GAP})?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.\-\u2010\u2011])[2-9]\d\d{_GAP}\d{{4}}"
_INTERNATIONAL = rf"\+[1-9]\d{{0,2}}(?:{_GAP}?\(?\d{{1,12}}\)?)+"
_PHONE = re.compile(
    rf"(?<![\w.,$€£/+-])(?P<value>{_INTERNATIONAL}|{_NORTH_AMERICAN})(?!\w|[.,-]\d)", re.ASCII
)
_NAME = r"(?i:tel|telephone|phone|fax|mobile|cell|call)\b\.?:? ?"
_NAMED_PHONE = re.compile(
    rf"\b{_NAME}(?P<value>\(?\d(?:{_GAP}?[()]?{_GAP}?\d){{6,14}})(?!\w|[.,-]\d)", re.ASCII
)
# What a text must hold to be worth a search: polars is quick to say that most do not.
_HINT = rf"@|\.\d{{1,3}}\.\d|[23][0-9A-Fa-f]{{3}}:|\+\d|\d\)?{_GAP}\d{{3}}{_GAP}|{_NAME}\(?\d"
_FICTIONAL = re.compile(r"55501\d\d$")  # of North America, kept free for stories
_RESERVED = re.compile(r"(?i)[@.](?:example\.(?:com|net|org)|example|invalid|test|localhost)$")


class MaskPii(Cleaner):
    """Personal data in texts; a token that is null leaves its kind alone.

    E-mail and public IP addresses are masked as in FineWeb (datatrove's PIIFormatter), telephone numbers as
    in Dolma (arXiv 2402.00159, appendix on personal information), but more narrowly: international ones with
    a plus, North American ones whose area code stands apart, and digits after a word such as `tel`. Four
    numbers below 32, or behind `version` or `section`, are no address. There is one token of a kind, by
    default of a range that nobody owns (RFC 2606, 5737, 3849; 555-01xx in North America), and such ranges are
    never masked: a masked text stays as it is. FineWeb takes several tokens by turns.
    """

    email: str | None = Field("email@example.com", description="in the place of an e-mail address")
    ipv4: str | None = Field("192.0.2.1", description="in the place of a public IPv4 address")
    ipv6: str | None = Field("2001:db8::1", description="in the place of a public IPv6 address")
    phone: str | None = Field("+1 202-555-0100", description="in the place of a telephone number")

    def cleaned(self) -> pl.Expr:
        """The text with tokens."""
        return measure(masked, pl.String, self._tokens)

    @property
    def _tokens(self) -> tuple[str | None, ...]:
        return (self.email, self.ipv4, self.ipv6, self.phone)

    @model_validator(mode="after")
    def _stays_masked(self) -> Self:
        for token in self._tokens:
            if token and _masked(token, self._tokens) != token:
                raise ValueError(f"{token!r} would itself be masked; choose another token")
        return self


def masked(texts: pl.Series, tokens: tuple[str | None, ...]) -> pl.Series:
    """Texts with tokens for e-mail, IPv4, IPv6 and telephone in the place of personal data."""
    suspects = texts.str.contains(_HINT)
    found = [
        _masked(text, tokens) if is_suspect else text
        for text, is_suspect in zip(texts, suspects, strict=True)
    ]
    return pl.Series(texts.name, found, dtype=pl.String)


def _masked(text: str, tokens: tuple[str | None, ...]) -> str:
    for pattern, is_personal, token in _kinds(tokens):
        if token is not None:
            text = pattern.sub(partial(_token, token, is_personal), text)
    return text


def _kinds(
    tokens: tuple[str | None, ...],
) -> Iterator[tuple[re.Pattern[str], Callable[[re.Match[str]], bool], str | None]]:
    email, ipv4, ipv6, phone = tokens
    yield _EMAIL, _is_someones, email
    yield _IPV4, _is_public, ipv4
    yield _IPV6, _is_public, ipv6
    yield _PHONE, _is_callable, phone
    yield _NAMED_PHONE, _is_callable, phone


def _token(token: str, is_personal: Callable[[re.Match[str]], bool], match: re.Match[str]) -> str:
    if not is_personal(match):
        return match[0]
    return match[0][: match.start("value") - match.start()] + token


def _is_someones(match: re.Match[str]) -> bool:
    return not _RESERVED.search(match["value"])


def _is_public(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.ip_address(match["value"])
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or match.groupdict().get("numbered"):
        return False
    # Of four small numbers one address in 4,096 is made, and most numbers of sections and versions are.
    return address.version == 6 or max(address.packed) >= 32


def _is_callable(match: re.Match[str]) -> bool:
    value = match["value"]
    digits = re.sub(r"\D", "", value)
    # A number with a decimal point is a quantity: points separate all groups, or none.
    dots, others = value.count("."), len(re.findall(r"[ \-\u2010\u2011\u00a0(]", value))
    is_quantity = dots == 1 or (dots > 0 and others > 0)
    return 7 <= len(digits) <= 15 and not is_quantity and not _FICTIONAL.search(digits)
