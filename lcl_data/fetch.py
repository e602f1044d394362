"""Fetches many URLs of strangers at once: politely (per-host limit, back-off, opt-outs) and safely.

Every URL ends as a `Fetched` value with a stable reason; nothing a server does raises. One event loop serves
the whole command, because a limit per host that is split over processes is no limit.
"""

import asyncio
import resource
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_network
from time import monotonic

import aiohttp
from pydantic import Field, field_validator
from yarl import URL

from lcl_data.addresses import Guard
from lcl_data.answers import Answer, ask, explain
from lcl_data.carriers import Carrier
from schemas.errors import ImageError
from schemas.recipe import Settings

LOOKAHEAD = 10_000  # URLs waiting for their host while others go ahead; a shard's worth


class Fetch(Settings):
    """How URLs are fetched."""

    concurrency: int = Field(256, ge=1, description="requests under way in all")
    per_host: int = Field(
        8, ge=1, description="requests and connections to one host (8: LAION's own fix for shared CDNs)"
    )
    timeout_s: float = Field(
        20.0, gt=0, description="deadline of an attempt: look-up, redirects, last byte; no turns at hosts"
    )
    max_bytes: int = Field(
        32 << 20, ge=1, description="longer bodies are refused, by Content-Length or while reading"
    )
    max_redirects: int = Field(5, ge=0, description="hops followed, each one checked like the first")
    retries: int = Field(
        2, ge=0, description="further attempts after 429, 5xx or a broken connection, and after nothing else"
    )
    backoff_s: float = Field(
        0.5,
        ge=0,
        description="wait before the first of them, doubled each time, unless the server says Retry-After",
    )
    max_wait_s: float = Field(30.0, ge=0, description="a longer Retry-After is not waited for")
    user_agent: str = Field(
        f"lcl/{version('lcl')} (image-text dataset builder)",
        description="the truth; add a contact address for a large crawl",
    )
    disallowed: tuple[str, ...] = Field(
        ("noai", "noimageai", "noindex", "noimageindex", "none"),
        description="X-Robots-Tag directives that are a no, to whichever agent they are said",
    )
    allow_private: bool = Field(
        False, description="also fetch from private, loopback, link-local and other non-public addresses"
    )
    allow_networks: tuple[str, ...] = Field(
        (), description="networks that may be fetched from although they are not public"
    )

    @field_validator("allow_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(network)) for network in networks)

    @field_validator("disallowed")
    @classmethod
    def _as_robots_are_read(cls, directives: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(directive.strip().lower() for directive in directives)

    @field_validator("user_agent")
    @classmethod
    def _is_a_header(cls, agent: str) -> str:
        if not agent.isprintable():
            raise ValueError(f"user_agent {agent!r}: a header is one line of printable characters")
        return agent


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one URL.

    Attributes:
        index: of the URL in the order given.
        url: as given; where a carrier was given, its text.
        content: the body; None unless the server answered 200 and nothing was in the way.
        reason: why there is no content: http_404, timeout, too_large, private_address, bad_scheme, bad_url,
            opted_out, too_many_redirects, dns, tls, unreachable, connection, bad_response, carrier_missing,
            carrier_torn; None with content.
        detail: what exactly happened, in words.
        http_status: of the last answer, None without one.
    """

    index: int
    url: str
    content: bytes | None
    reason: str | None
    detail: str
    http_status: int | None


@dataclass(slots=True)
class _Job:
    index: int
    text: str
    target: URL | Carrier
    left_s: float  # of the deadline of this attempt
    hops: int = 0
    attempts: int = 0

    @property
    def host(self) -> str:
        """Whose slots it takes; the disk counts as one host."""
        return "" if isinstance(self.target, Carrier) else self.target.raw_host or ""


async def fetch_all(urls: AsyncIterable[str | Carrier], settings: Fetch) -> AsyncGenerator[Fetched, None]:
    """Fetch URLs, and read carriers from the disk; yields one `Fetched` for each, in order of completion.

    The iterable is drawn from as room allows, at most `LOOKAHEAD` URLs ahead, so it may be endless; it may
    wait until earlier URLs have an outcome. A slow consumer slows the fetching: few bodies wait for it.
    Close the generator (`aclosing`) to stop early.
    """
    _raise_file_limit()
    async with _session(settings) as session, aclosing(_Pool(session, settings).run(urls)) as results:
        async for fetched in results:
            yield fetched


class _Pool:
    """The requests of one command, so ordered that a busy host never keeps others waiting."""

    def __init__(self, session: aiohttp.ClientSession, settings: Fetch) -> None:
        self._session = session
        self._settings = settings
        self._ready: asyncio.Queue[_Job] = asyncio.Queue()  # jobs that hold a slot of their host
        self._active: dict[str, int] = {}
        self._waiting: dict[str, deque[_Job]] = {}
        self._room = asyncio.Semaphore(LOOKAHEAD)
        self._results: asyncio.Queue[Fetched | Exception | None] = asyncio.Queue(settings.concurrency)
        self._total: int | None = None

    async def run(self, urls: AsyncIterable[str | Carrier]) -> AsyncGenerator[Fetched, None]:
        tasks = [asyncio.create_task(self._told(self._feed(urls)))]
        tasks += [asyncio.create_task(self._told(self._work())) for _ in range(self._settings.concurrency)]
        done = 0
        try:
            while done != self._total:
                result = await self._results.get()
                if isinstance(result, Exception):
                    raise result
                if result is not None:
                    done += 1
                    yield result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _told(self, work: Coroutine[None, None, None]) -> None:
        """A task whose failure reaches the consumer instead of leaving it waiting."""
        try:
            await work
        except Exception as error:
            await self._results.put(error)

    async def _feed(self, urls: AsyncIterable[str | Carrier]) -> None:
        count = 0
        async for url in urls:
            index, count = count, count + 1
            await self._room.acquire()
            try:
                target = url if isinstance(url, Carrier) else URL(url)
                self._admit(_Job(index, str(url), target, self._settings.timeout_s))
            except ValueError as error:
                self._room.release()
                await self._results.put(Fetched(index, str(url), None, "bad_url", str(error), None))
        self._total = count
        await self._results.put(None)

    def _admit(self, job: _Job) -> None:
        if self._active.get(job.host, 0) < self._settings.per_host:
            self._active[job.host] = self._active.get(job.host, 0) + 1
            self._ready.put_nowait(job)
        else:
            self._waiting.setdefault(job.host, deque()).append(job)

    def _release(self, host: str) -> None:
        """Hand the slot of a finished job to the next one of its host."""
        if waiting := self._waiting.get(host):
            self._ready.put_nowait(waiting.popleft())
            return
        self._waiting.pop(host, None)
        self._active[host] -= 1
        if not self._active[host]:
            del self._active[host]

    async def _work(self) -> None:
        while True:
            job = await self._ready.get()
            answer = await self._attempt(job)
            if isinstance(answer, URL):
                self._go_on(job, answer)
                continue
            if (wait_s := self._wait_s(answer, job.attempts)) is not None:
                job.attempts, job.left_s = job.attempts + 1, self._settings.timeout_s
                # The slot of the host stays taken meanwhile, so that a host which asks for time gets it.
                asyncio.get_running_loop().call_later(wait_s, self._ready.put_nowait, job)
                continue
            self._release(job.host)
            self._room.release()
            await self._results.put(_fetched(job, answer))

    def _go_on(self, job: _Job, target: URL) -> None:
        """Follow a redirect; at another host the job waits for its turn, and so holds up nobody."""
        host, job.target, job.hops = job.host, target, job.hops + 1
        if job.host == host:
            self._ready.put_nowait(job)
            return
        self._release(host)
        self._admit(job)

    async def _attempt(self, job: _Job) -> Answer | URL:
        """What a job comes to, or the address where it goes on."""
        settings = self._settings
        if isinstance(job.target, Carrier):
            return await asyncio.to_thread(_carried, job.target, settings.max_bytes)
        if job.hops > (most := settings.max_redirects):
            return Answer(reason="too_many_redirects", detail=f"more than {most}, the last to {job.target}")
        began = monotonic()
        try:
            async with asyncio.timeout(job.left_s):
                return await ask(self._session, job.target, settings.max_bytes, settings.disallowed)
        except Exception as error:  # nothing a server does ends the command
            return explain(error, settings.timeout_s)
        finally:
            job.left_s -= monotonic() - began

    def _wait_s(self, answer: Answer, attempts: int) -> float | None:
        """Seconds until the next attempt; None if there shall be none."""
        if not answer.may_retry or attempts >= self._settings.retries:
            return None
        if answer.retry_after_s is None:
            return min(self._settings.backoff_s * float(2**attempts), self._settings.max_wait_s)
        return answer.retry_after_s if answer.retry_after_s <= self._settings.max_wait_s else None


def _fetched(job: _Job, answer: Answer) -> Fetched:
    # A server's words may be in any encoding; aiohttp hands on bytes it cannot read as lone surrogates.
    detail = answer.detail.encode(errors="backslashreplace").decode()
    return Fetched(job.index, job.text, answer.content, answer.reason, detail, answer.http_status)


def _carried(carrier: Carrier, max_bytes: int) -> Answer:
    try:
        return Answer(content=carrier.read(max_bytes))
    except ImageError as error:
        return Answer(reason=error.reason, detail=error.detail)


@asynccontextmanager
async def _session(settings: Fetch) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(
        limit=0,  # the number of workers is the limit
        limit_per_host=settings.per_host,  # also for hosts reached by a redirect
        ttl_dns_cache=300,
        keepalive_timeout=4.0,  # longer keeps thousands of idle sockets of hosts that are asked once
        socket_factory=Guard(settings.allow_private, settings.allow_networks),
    )
    headers = {
        "User-Agent": settings.user_agent,
        "Accept": "image/jpeg,image/png,image/webp,image/gif,image/*;q=0.5,*/*;q=0.1",
        "Accept-Encoding": "identity",  # pictures are compressed already
    }
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=1 << 18,
        trust_env=False,  # a proxy would connect for us, past the guard
    ) as session:
        yield session


def _raise_file_limit() -> None:
    """Permit as many open sockets as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
