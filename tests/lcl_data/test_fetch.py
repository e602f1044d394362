"""Every promise of the fetcher, against a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import monotonic

import numpy as np
import pytest
from pydantic import ValidationError

from lcl_data.answers import explain, is_transient
from lcl_data.fetch import Fetch, Fetched, fetch_all
from lcl_data.robots import directives
from tests.lcl_data.loopback import Answer, Loopback, running

OPEN = Fetch(allow_private=True, backoff_s=0.01, timeout_s=5)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with running() as loopback:
        yield loopback


async def one_by_one(urls: Iterable[str]) -> AsyncIterator[str]:
    for url in urls:
        yield url


def fetch(settings: Fetch, *urls: str) -> list[Fetched]:
    async def collect() -> list[Fetched]:
        return [fetched async for fetched in fetch_all(one_by_one(urls), settings)]

    return sorted(asyncio.run(collect()), key=lambda fetched: fetched.index)


def reason(settings: Fetch, url: str) -> str | None:
    (fetched,) = fetch(settings, url)
    assert (fetched.reason is None) == (fetched.content is not None)
    return fetched.reason


def test_content_and_status_come_back_with_the_url_they_belong_to(server):
    urls = [server.serve(f"/{n}", Answer(str(n).encode() * n, wait_s=0.02 * (3 - n))) for n in range(1, 4)]
    results = fetch(OPEN, *urls)
    assert [(f.url, f.content, f.http_status) for f in results] == [
        (url, str(n).encode() * n, 200) for n, url in enumerate(urls, start=1)
    ]


def test_it_says_who_it_is(server):
    fetch(OPEN, server.serve("/a", Answer(b"x")))
    (agent,) = server.agents
    assert agent.startswith("lcl/")


def test_404_is_asked_once(server):
    (fetched,) = fetch(OPEN, server.url("/none"))
    assert (fetched.reason, fetched.http_status) == ("http_404", 404)
    assert server.counts["/none"] == 1 and not is_transient(fetched.reason)


def test_a_reason_phrase_in_no_known_encoding_is_told_and_can_be_written_down(server):
    (fetched,) = fetch(OPEN, server.serve("/a", Answer(status=404, phrase="introuvable, désolé")))
    assert fetched.reason == "http_404"
    assert fetched.detail.encode().startswith(b"introuvable")


def test_503_then_200(server):
    url = server.serve("/a", Answer(status=503), Answer(b"here"))
    assert fetch(OPEN, url)[0].content == b"here"
    assert server.counts["/a"] == 2


def test_503_for_ever_ends_after_the_retries_with_growing_waits(server):
    settings = OPEN.model_copy(update={"backoff_s": 0.1})
    assert reason(settings, server.serve("/a", Answer(status=503))) == "http_503"
    first, second, third = server.times["/a"]
    assert second - first >= 0.1 and third - second >= 0.2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_429_waits_as_long_as_the_server_asks(server, form):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    after = {"Retry-After": "1" if form == "seconds" else date}
    url = server.serve("/a", Answer(status=429, headers=after), Answer(b"here"))
    assert fetch(OPEN, url)[0].content == b"here"
    first, second = server.times["/a"]
    assert second - first >= 0.95


def test_429_that_asks_for_too_long_is_given_up_but_may_be_tried_another_day(server):
    url = server.serve("/a", Answer(status=429, headers={"Retry-After": "3600"}))
    assert reason(OPEN, url) == "http_429" and is_transient("http_429")
    assert server.counts["/a"] == 1


@pytest.mark.parametrize(
    "after",
    ["soon", "", "Â²", "-1", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "1 Jan 2026 9999999999:00"],
)
def test_a_retry_after_that_says_no_time_is_as_if_it_were_not_there(server, after):
    url = server.serve("/a", Answer(status=503, headers={"Retry-After": after}), Answer(b"here"))
    assert fetch(OPEN, url)[0].content == b"here"


HEAD = (
    b"HTTP/1.1 %d X\r\nRetry-After: Mon, 01 Jan 2026 00:00:00 GMT\r\nLocation: http://[::1]:80/a%%20b\r\n"
    b"X-Robots-Tag: bot: none, unavailable_after: 1 Jan 2026\r\nContent-Encoding: gzip\r\n"
    b"Set-Cookie: a=b; c\r\nContent-Type: image/png; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
)


def test_whatever_bytes_a_server_sends_have_a_reason(server):
    random = np.random.default_rng(0)
    urls = []
    for number in range(300):
        sent = bytearray(HEAD % random.choice([200, 302, 503]))
        for place in random.integers(len(sent), size=random.integers(6)):
            sent[place : place + random.integers(3)] = random.bytes(random.integers(1, 24))
        urls.append(server.serve(f"/{number}", Answer(raw=bytes(sent))))
    results = fetch(OPEN.model_copy(update={"retries": 0, "per_host": 32, "timeout_s": 2}), *urls)
    assert len(results) == 300 and all((f.reason is None) == (f.content is not None) for f in results)


def test_an_error_that_nobody_foresaw_has_a_reason_too():
    assert explain(AssertionError("odd"), 1.0).reason == "bad_response"


def test_a_broken_connection_is_tried_again(server):
    url = server.serve("/a", Answer(b"whole body", cut=True), Answer(b"whole body"))
    assert fetch(OPEN, url)[0].content == b"whole body"


def test_a_body_that_ends_early_is_never_content(server):
    assert reason(OPEN, server.serve("/a", Answer(b"whole body", cut=True))) == "connection"
    assert server.counts["/a"] == 1 + OPEN.retries


@pytest.mark.parametrize("answer", [Answer(b"x", wait_s=30), Answer(b"x" * 500, drip_s=0.05)])
def test_slow_first_byte_and_drip_feed_end_at_the_deadline(server, answer):
    start = monotonic()
    assert reason(OPEN.model_copy(update={"timeout_s": 0.4}), server.serve("/a", answer)) == "timeout"
    assert monotonic() - start < 2
    assert server.counts["/a"] == 1


def test_redirects_are_followed_up_to_a_limit(server):
    for n in range(9):
        server.serve(f"/{n}", Answer(status=302, headers={"Location": f"/{n + 1}"}))
    server.serve("/9", Answer(b"end"))
    assert fetch(OPEN, server.url("/4"))[0].content == b"end"
    assert reason(OPEN, server.url("/3")) == "too_many_redirects"


def test_many_hosts_that_redirect_to_one_wait_for_it_and_hold_up_nobody(server):
    urls = []
    for n in range(3, 41):
        server.serve(f"/{n}", Answer(status=302, headers={"Location": server.url(f"/to/{n}", "127.0.0.2")}))
        server.serve(f"/to/{n}", Answer(b"x", wait_s=0.1))
        urls.append(server.url(f"/{n}", f"127.0.0.{n}"))
    urls.append(server.serve("/quick", Answer(b"quick")))
    settings = OPEN.model_copy(update={"per_host": 2, "concurrency": 24, "timeout_s": 1.0})

    async def collect() -> list[Fetched]:
        return [fetched async for fetched in fetch_all(one_by_one(urls), settings)]

    results = asyncio.run(collect())  # takes two seconds, twice the deadline
    assert [f.reason for f in results] == [None] * 39
    assert [f.content for f in results].index(b"quick") < 10


def test_the_deadline_is_one_for_all_redirects_and_not_for_all_attempts(server):
    for n in range(3):
        server.serve(f"/{n}", Answer(status=302, headers={"Location": f"/{n + 1}"}, wait_s=0.3))
    server.serve("/3", Answer(b"end", wait_s=0.3))
    assert reason(OPEN.model_copy(update={"timeout_s": 0.8}), server.url("/0")) == "timeout"
    assert server.counts == {"/0": 1, "/1": 1, "/2": 1}
    late = server.serve("/late", Answer(status=503, wait_s=0.5), Answer(b"here", wait_s=0.5))
    assert reason(OPEN.model_copy(update={"timeout_s": 0.8}), late) is None


def test_redirect_to_a_private_address_is_refused(server):
    settings = Fetch(allow_networks=("127.0.0.2/32",))
    server.serve("/end", Answer(b"secret"))
    server.serve("/hop", Answer(status=301, headers={"Location": server.url("/end")}))
    assert reason(settings, server.url("/hop", "127.0.0.2")) == "private_address"
    assert server.counts == {"/hop": 1}


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:image/png;base64,AA=="]
)
def test_redirect_to_another_scheme_is_refused(server, target):
    url = server.serve("/hop", Answer(status=302, headers={"Location": target}))
    assert reason(OPEN, url) == "bad_scheme"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1", "0177.0.0.1", "127.0.0.1."]
)
def test_private_addresses_are_refused_however_they_are_written(server, host):
    server.serve("/a", Answer(b"secret"))
    assert reason(Fetch(), server.url("/a", host)) in ("private_address", "bad_url")
    assert not server.counts


def test_a_name_that_resolves_to_a_private_address_is_refused_by_that_reason(server):
    assert reason(Fetch(), server.url("/a", "localhost")) == "private_address"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "data:image/png;base64,AA==", "ftp://example.org/x"])
def test_other_schemes_are_refused(url):
    assert reason(OPEN, url) == "bad_scheme"


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://", "//host/x", "http://[::1", "http://127.0.0.1:99999/"]
)
def test_what_is_no_url_has_a_reason(url):
    assert reason(OPEN, url) == "bad_url"


def test_unknown_host_and_closed_port_have_reasons():
    assert reason(OPEN, "http://no-such-host.invalid/") == "dns"
    assert reason(OPEN, "http://127.0.0.1:1/") == "unreachable"


@pytest.mark.parametrize("value", ["noai", "NoIndex, nofollow", "somebot: noimageai", "all, noimageindex"])
def test_opt_out_headers_are_honoured(server, value):
    url = server.serve("/a", Answer(b"picture", headers={"X-Robots-Tag": value}))
    assert reason(OPEN, url) == "opted_out"


def test_other_robots_directives_are_no_opt_out(server):
    value = "nofollow, max-image-preview: large, unavailable_after: 25 Jun 2030 15:00:00 PST"
    assert reason(OPEN, server.serve("/a", Answer(b"x", headers={"X-Robots-Tag": value}))) is None
    assert directives(["a: noai, none", "noindex"]) == {"noai", "none", "noindex"}


def test_a_directive_of_ones_own_is_honoured_however_it_is_written(server):
    url = server.serve("/a", Answer(b"picture", headers={"X-Robots-Tag": "notrain"}))
    assert reason(Fetch(allow_private=True, disallowed=("NoTrain ",)), url) == "opted_out"
    assert reason(OPEN, url) is None


def test_too_long_a_body_is_refused_by_its_header_and_while_reading(server):
    settings = OPEN.model_copy(update={"max_bytes": 1000})
    assert reason(settings, server.serve("/declared", Answer(b"x" * 1001))) == "too_large"
    assert reason(settings, server.serve("/exact", Answer(b"x" * 1000))) is None
    chunks = b"".join(b"64\r\n" + b"x" * 100 + b"\r\n" for _ in range(11)) + b"0\r\n\r\n"
    undeclared = Answer(chunks, headers={"Transfer-Encoding": "chunked"})
    assert reason(settings, server.serve("/chunked", undeclared)) == "too_large"
    assert reason(OPEN, server.url("/chunked")) is None


def test_requests_to_one_host_never_exceed_its_limit(server):
    urls = [server.serve(f"/{n}", Answer(b"x", wait_s=0.03)) for n in range(24)]
    results = fetch(OPEN.model_copy(update={"per_host": 3}), *urls)
    assert all(f.content == b"x" for f in results) and server.peak == 3


def test_a_busy_host_does_not_hold_up_the_others(server):
    busy = [server.serve(f"/{n}", Answer(b"x", wait_s=0.1)) for n in range(20)]
    server.serve("/quick", Answer(b"quick"))

    urls = [*busy, server.url("/quick", "127.0.0.2")]

    async def order() -> list[str]:
        settings = OPEN.model_copy(update={"per_host": 2, "concurrency": 4})
        return [f.url async for f in fetch_all(one_by_one(urls), settings)]

    assert asyncio.run(order())[0].endswith("/quick")


def test_a_failing_source_of_urls_reaches_the_caller():
    async def urls() -> AsyncIterator[str]:
        yield "nonsense"
        raise RuntimeError("torn list")

    async def collect() -> None:
        async for _ in fetch_all(urls(), OPEN):
            pass

    with pytest.raises(RuntimeError, match="torn list"):
        asyncio.run(collect())


def test_a_misspelt_setting_or_network_is_refused():
    with pytest.raises(ValidationError):
        Fetch(allow_networks=("not a network",))
    with pytest.raises(ValidationError):
        Fetch(timeout=3)
    with pytest.raises(ValidationError, match="one line"):
        Fetch(user_agent="me\nX-Other: you")
