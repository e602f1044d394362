"""Serves a folder on loopback, as an image host would: the demo's pictures never come from anywhere else.

aiohttp in a thread rather than the standard library's server: a download of thousands of small pictures is
bound by requests, and aiohttp parses them in C.
"""

import asyncio
import mimetypes
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from schemas.errors import RecipeError

LOOPBACK = "127.0.0.1"
SIDE_SUFFIX = ".headers"


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve `folder` while the context lasts; a file NAME.headers adds or overrides response headers of NAME.

    Args:
        folder: what to serve; files may come and go while it is served.
        port: port on 127.0.0.1; 0 takes any free one.

    Yields:
        The base URL, without a slash at its end.

    Raises:
        RecipeError: the port is taken or is none.
    """
    stop: Future[None] = Future()
    started: Future[str] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_run(folder, port, started, stop)), daemon=True)
    thread.start()
    try:
        yield started.result()
    finally:
        stop.set_result(None)
        thread.join()


async def _run(folder: Path, port: int, started: Future[str], stop: Future[None]) -> None:
    """Serve until `stop` is set; what prevents a start goes to whoever waits for it."""
    try:
        async with _listening(folder, port) as url:
            started.set_result(url)
            await asyncio.wrap_future(stop)
    except (OSError, OverflowError) as error:
        message = f"cannot listen on {LOOPBACK}:{port} ({error}): choose another port, or 0 for any free one"
        started.set_exception(RecipeError(message))


@asynccontextmanager
async def _listening(folder: Path, port: int) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/{path:.*}", _answerer(folder.resolve()))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _answerer(root: Path) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        path = (root / request.match_info["path"]).resolve()
        if not path.is_relative_to(root) or path.suffix == SIDE_SUFFIX or not path.is_file():
            return web.Response(status=404, text="no such file")
        return web.Response(body=path.read_bytes(), headers=_headers(path))

    return answer


def _headers(path: Path) -> dict[str, str]:
    """Content type by name, then the lines `Name: value` of the side file."""
    headers = {"Content-Type": mimetypes.guess_type(path.name)[0] or "application/octet-stream"}
    side = path.with_name(path.name + SIDE_SUFFIX)
    if side.is_file():
        headers |= dict(line.split(": ", 1) for line in side.read_text(encoding="utf-8").splitlines())
    return headers
