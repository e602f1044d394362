"""A real HTTP server on 127.0.0.1 to 127.0.0.40 with answers, delays and faults written down by the test."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    phrase: str = "X"  # behind the status, in latin-1
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0  # before the first byte
    drip_s: float = 0.0  # between single bytes of the body
    cut: bool = False  # break the connection after half of the body
    raw: bytes | None = None  # all that is sent instead, before the connection is closed


class Loopback:
    def __init__(self) -> None:
        self.port = 0
        self.counts: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}
        self.agents: set[str] = set()
        self.peak = 0
        self._active = 0
        self._answers: dict[str, list[Answer]] = {}
        self._servers: list[asyncio.Server] = []

    async def listen(self) -> None:
        self._servers.append(await asyncio.start_server(self.connect, "127.0.0.1", 0))
        self.port = self._servers[0].sockets[0].getsockname()[1]
        others = [f"127.0.0.{number}" for number in range(2, 41)]
        self._servers.append(await asyncio.start_server(self.connect, others, self.port))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn of the loop

    def serve(self, path: str, *answers: Answer) -> str:
        """Answer the n-th request of a path with the n-th answer, all later ones with the last; its URL."""
        self._answers[path] = list(answers)
        return self.url(path)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        self.agents |= {line[12:] for line in head.split("\r\n") if line.lower().startswith("user-agent: ")}
        answers = self._answers.get(path, [Answer(status=404)])
        answer = answers[min(self.counts[path], len(answers) - 1)]
        self.counts[path] += 1
        self.times.setdefault(path, []).append(monotonic())
        self._active += 1
        self.peak = max(self.peak, self._active)
        try:
            return await self._send(answer, writer)
        finally:
            self._active -= 1

    async def _send(self, answer: Answer, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(answer.wait_s)
        if answer.raw is not None:
            writer.write(answer.raw)
            await writer.drain()
            return False
        length = {} if "Transfer-Encoding" in answer.headers else {"Content-Length": str(len(answer.body))}
        headers = {**length, **answer.headers}
        lines = [
            f"HTTP/1.1 {answer.status} {answer.phrase}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if answer.cut:
            writer.write(answer.body[: len(answer.body) // 2])
            await writer.drain()
            return False
        if answer.drip_s:
            for byte in answer.body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(answer.drip_s)
        else:
            writer.write(answer.body)
            await writer.drain()
        return True


@contextmanager
def running() -> Iterator[Loopback]:
    server = Loopback()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.listen(), loop).result()
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
