"""One URL to one answer: headers obeyed, a byte cap kept, failures named.

Redirects are not left to aiohttp so that every hop meets the same checks of scheme, address and opt-out, and
waits for its turn at its host.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from lcl_data.addresses import is_refusal
from lcl_data.robots import directives

_SCHEMES = ("http", "https")
_REDIRECTS = (301, 302, 303, 307, 308)
# First match decides: aiohttp's errors inherit from each other.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns"),
    (aiohttp.ClientSSLError, "tls"),
    (aiohttp.ClientConnectorError, "unreachable"),
    (aiohttp.InvalidURL, "bad_url"),
    (aiohttp.ClientConnectionError, "connection"),
    (aiohttp.ClientPayloadError, "connection"),
    (aiohttp.ClientError, "bad_response"),
    (TimeoutError, "timeout"),
    (OSError, "connection"),
    (ValueError, "bad_url"),
    (Exception, "bad_response"),  # a server may say what no library foresaw
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of one attempt; `reason` and `content` as in `lcl_data.fetch.Fetched`.

    Attributes:
        content: the body, if all went well.
        reason: the stable name of what went wrong.
        detail: the same in words.
        http_status: of the last response.
        may_retry: the failure is of a kind that a second attempt can mend.
        retry_after_s: how long the server asks to wait, seconds.
    """

    content: bytes | None = None
    reason: str | None = None
    detail: str = ""
    http_status: int | None = None
    may_retry: bool = False
    retry_after_s: float | None = None


async def ask(
    session: aiohttp.ClientSession, url: URL, max_bytes: int, disallowed: Collection[str]
) -> Answer | URL:
    """Get a URL; a redirect is answered by the address it leads to.

    Raises:
        Exception: whatever `explain` explains.
    """
    if url.scheme not in _SCHEMES:
        return Answer(reason="bad_scheme" if url.scheme else "bad_url", detail=str(url)[:200])
    async with session.get(url, allow_redirects=False) as response:
        if no := _opt_out(response.headers, disallowed):
            return Answer(reason="opted_out", detail=f"X-Robots-Tag: {no}", http_status=response.status)
        target = response.headers.get("Location")
        if target is None or response.status not in _REDIRECTS:
            return await _read(response, max_bytes)
        return url.join(URL(target))


def explain(error: Exception, timeout_s: float) -> Answer:
    """The answer that an error of the network, of the server or in the URL amounts to."""
    if isinstance(error, aiohttp.ClientConnectorError) and is_refusal(error.os_error):
        return Answer(reason="private_address", detail=str(error.os_error))
    reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
    detail = f"not done after {timeout_s:g} s" if reason == "timeout" else f"{type(error).__name__}: {error}"
    return Answer(reason=reason, detail=detail, may_retry=reason == "connection")


def is_transient(reason: str | None) -> bool:
    """Whether a URL that failed for this reason may succeed another day."""
    if reason in ("timeout", "dns", "unreachable", "connection", "http_429", "carrier_missing"):
        return True
    return reason is not None and reason.startswith("http_5")


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> Answer:
    status = response.status
    if status != 200:
        return Answer(
            reason=f"http_{status}",
            detail=response.reason or "",
            http_status=status,
            may_retry=status == 429 or status >= 500,
            retry_after_s=_seconds(response.headers.get("Retry-After")),
        )
    size = response.content_length or 0
    parts = []
    if size <= max_bytes:
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > max_bytes:
                break
            parts.append(part)
    if size > max_bytes:
        return Answer(reason="too_large", detail=f"more than {max_bytes} bytes", http_status=status)
    return Answer(content=b"".join(parts), http_status=status)


def _opt_out(headers: CIMultiDictProxy[str], disallowed: Collection[str]) -> str | None:
    values = headers.getall("X-Robots-Tag", None)
    return None if values is None else min(directives(values).intersection(disallowed), default=None)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds from now: it is a number or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):  # a year of twenty digits
        return None
