"""Many small questions: one after another on a disk; in object storage, where each takes its time to be
answered, several at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lcl_data import files

# Ranges of an object that lie so near one another are one request, and so much is fetched at a time.
_GAP_NBYTES, _SPAN_NBYTES, _BATCH_RANGES = 64 << 10, 4 << 20, 16
_THREADS = 32
Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


def each(folder: Path, ask: Callable[[Thing], Answer], things: Iterable[Thing]) -> list[Answer]:
    """The answers about things, in their order.

    Args:
        folder: where what is asked about lies.
        ask: waits for the folder more than it works.
        things: files, or what stands for them.
    """
    if not files.is_remote(folder):
        return [ask(thing) for thing in things]
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(ask, things))


def ranges(path: Path, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes at (offset, length), offsets ascending; fewer where the file ends before.

    In object storage neighbours are one request, and several requests are under way at a time.
    """
    if not files.is_remote(path):
        with path.open("rb") as file:
            for offset, nbytes in places:
                file.seek(offset)
                yield file.read(nbytes)
        return
    system, name = files.object_of(path)
    size = path.stat().st_size
    spans = _spans([(min(offset, size), min(offset + nbytes, size)) for offset, nbytes in places])
    for first in range(0, len(spans), _BATCH_RANGES):
        batch = spans[first : first + _BATCH_RANGES]
        edges = [(span[0][0], max(stop for _, stop in span)) for span in batch]
        asked = [edge for edge in edges if edge[0] < edge[1]]  # beyond the end there is nothing to ask for
        starts, stops = ([edge[side] for edge in asked] for side in (0, 1))
        found = dict(zip(asked, system.cat_ranges([name] * len(asked), starts, stops), strict=True))
        for span, edge in zip(batch, edges, strict=True):
            content = found.get(edge, b"")
            yield from (content[start - edge[0] : stop - edge[0]] for start, stop in span)


def _spans(places: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """(start, stop) that lie near one another, together."""
    spans: list[list[tuple[int, int]]] = []
    for start, stop in places:
        last = spans[-1] if spans else []
        if last and start - last[-1][1] <= _GAP_NBYTES and stop - last[0][0] <= _SPAN_NBYTES:
            last.append((start, stop))
        else:
            spans.append([(start, stop)])
    return spans
