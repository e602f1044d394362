"""The first rows of a run as one page: how documents share rows, and what the trainer sees of them.

Everything is read from the very batch that a run would learn from first: its tokens, its slots, its crops.
"""

import io
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from html import escape
from itertools import accumulate, pairwise
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from pipelines.page import COLOURS, html_page

if TYPE_CHECKING:
    from lcl_train.preview import Preview

MOST_ROWS = 32
_CARDS = 12
_CROPS = 6  # of a document; of later pictures only the place is told
_TOKENS = 48  # of a text that are shown at each of its ends
_WIDTH, _HEIGHT, _GAP, _LEFT, _RIGHT = 1180, 16, 5, 28, 60
_GREY = 127
_STYLE = """
rect { stroke: #fff; stroke-width: .5; }
.empty { fill: #9ca3af; opacity: .45; } .slots { fill: #000; opacity: .5; }
main { columns: 2; column-gap: 1.5rem; }
article { border-left: 4px solid; padding: 0 .8rem; margin-bottom: 1.2rem; break-inside: avoid; }
h3 { margin: 0; font-size: 1em; } small { opacity: .7; font-weight: normal; }
article figure { display: flex; align-items: center; gap: .7rem; margin: .2rem 0; }
img { min-width: 64px; max-width: 160px; } img.foretold { outline: 2px dashed #dc2626; }
figcaption { font-size: 11px; opacity: .8; } .text { unicode-bidi: isolate; white-space: pre-wrap; }
"""
Decode = Callable[[list[int]], str]


class _Picture(NamedTuple):
    """A picture in a segment.

    Attributes:
        at: place of its `<BoI>` in the segment.
        number: in the batch.
        is_pair: whether the stream at its `<BoI>` must foretell it.
        is_shown: whether slots follow.
    """

    at: int
    number: int
    is_pair: bool
    is_shown: bool


class _Segment:
    """A document, or a part of one, or padding, at its place in a row."""

    def __init__(self, seen: "Preview", number: int, start: int, stop: int) -> None:
        self._seen, self._start, self._stop = seen, start, stop
        self.document, self.source = seen.batch.documents[number], seen.batch.sources[number]
        self.row, self.at = divmod(start, seen.row_tokens)
        self.tokens = stop - start

    @cached_property
    def flow(self) -> list[list[int] | _Picture]:
        """Runs of text as ids, and pictures, in reading order."""
        batch, slots, boi = self._seen.batch, self._seen.slots, self._seen.specials.boi
        pairs = dict(zip(batch.pair_position.tolist(), batch.pair_image.tolist(), strict=True))
        filled = [*batch.visual_index[self._start : self._stop].tolist(), -1]
        found: list[list[int] | _Picture] = [[]]
        ids, at = batch.tokens[self._start : self._stop].tolist(), 0
        while at < self.tokens:
            if ids[at] != boi:
                found[-1].append(ids[at])  # type: ignore[union-attr]
                at += 1
                continue
            is_shown, place = filled[at + 1] >= 0, self._start + at
            number = filled[at + 1] // slots if is_shown else pairs[place]
            found += [_Picture(at, number, place in pairs, is_shown), []]
            at += slots + 2 if is_shown else 1
        return [each for each in found if each]

    @property
    def pictures(self) -> list[_Picture]:
        """Those of the flow."""
        return [each for each in self.flow if isinstance(each, _Picture)]


def write_rows(seen: "Preview", shards: Path, decode: Decode, page: Path) -> None:
    """Draw rows and the documents in the first of them.

    Args:
        seen: what a run would learn from first.
        shards: where it lies.
        decode: ids to text.
        page: the HTML file to write.
    """
    segments = list(_segments(seen))
    documents = dict.fromkeys(each.document for each in segments if each.document)
    colours = {document: COLOURS[n % len(COLOURS)] for n, document in enumerate(documents)}
    shown = [each for each in segments if each.document][:_CARDS]
    cards = "\n".join(_card(seen, each, colours[each.document], decode) for each in shown)
    body = (
        f"<p>{_facts(seen)}</p>\n{_strip(seen, segments, colours)}\n"
        "<p>A colour is a document, a dark stretch the slots of a picture, grey is padding.</p>\n"
        f"<h2>The first {len(shown)} of them, as the trainer sees them</h2>\n<main>\n{cards}\n</main>"
    )
    title = f"{shards.resolve().name}: the first rows of {seen.preset}, {seen.objective}"
    page.write_text(html_page(title, _STYLE, body), encoding="utf-8")


def _segments(seen: "Preview") -> Iterator[_Segment]:
    bounds = accumulate(seen.batch.segments.lengths, initial=0)
    return (_Segment(seen, number, *place) for number, place in enumerate(pairwise(bounds)))


def _facts(seen: "Preview") -> str:
    stats = seen.stats
    return (
        f"Rows of {seen.row_tokens:,} positions, {seen.slots} of them for a picture. "
        f"Of {stats.rows:,} rows, {stats.fill:.1%} are filled, by {stats.pieces / stats.rows:.1f} documents "
        f"or parts a row; their pictures take {stats.image_fill:.1%} of <code>pack.row_images</code>."
    )


def _strip(seen: "Preview", segments: Sequence[_Segment], colours: dict[str, str]) -> str:
    rows = len(seen.batch.tokens) // seen.row_tokens
    height, scale = rows * (_HEIGHT + _GAP), (_WIDTH - _LEFT - _RIGHT) / seen.row_tokens
    drawn = [_drawn(seen, each, colours, scale) for each in segments]
    filled = [0] * rows
    for each in segments:
        filled[each.row] += each.tokens if each.document else 0
    labels = (
        f'<text x="{_LEFT - 6}" y="{_top(row) + 12}" text-anchor="end">{row + 1}</text>'
        f'<text x="{_WIDTH - _RIGHT + 6}" y="{_top(row) + 12}">{tokens / seen.row_tokens:.1%}</text>'
        for row, tokens in enumerate(filled)
    )
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(drawn)}{"".join(labels)}</svg>'


def _top(row: int) -> int:
    return row * (_HEIGHT + _GAP)


def _drawn(seen: "Preview", segment: _Segment, colours: dict[str, str], scale: float) -> str:
    def rect(at: int, tokens: int, how: str, title: str) -> str:
        return (
            f'<rect x="{_LEFT + (segment.at + at) * scale:.1f}" y="{_top(segment.row)}" '
            f'width="{tokens * scale:.1f}" height="{_HEIGHT}" {how}><title>{escape(title)}</title></rect>'
        )

    if not segment.document:
        return rect(0, segment.tokens, 'class="empty"', f"{segment.tokens:,} of padding")
    shown = [each for each in segment.pictures if each.is_shown]
    title = f"{segment.document} {segment.source}: {segment.tokens:,} positions, {len(shown)} pictures"
    drawn = [rect(0, segment.tokens, f'fill="{colours[segment.document]}"', title)]
    drawn += [rect(each.at + 1, seen.slots, 'class="slots"', f"picture {each.number}") for each in shown]
    return "".join(drawn)


def _card(seen: "Preview", segment: _Segment, colour: str, decode: Decode) -> str:
    drawn = segment.pictures[:_CROPS]
    parts = (
        _figure(seen, each, each in drawn) if isinstance(each, _Picture) else _text(each, decode)
        for each in segment.flow
    )
    place = f"row {segment.row + 1}, {segment.tokens:,} positions from {segment.at:,}"
    return (
        f'<article style="border-color: {colour}"><h3><bdi title="{escape(segment.document)}">'
        f"{escape(segment.document[:24])}</bdi> <small><bdi>{escape(segment.source)}</bdi> · {place}</small>"
        f"</h3>{''.join(parts)}</article>"
    )


def _text(ids: list[int], decode: Decode) -> str:
    left_out = len(ids) - 2 * _TOKENS
    if left_out <= _TOKENS:
        return f'<span class="text" dir="auto">{escape(decode(ids))}</span>'
    ends = (escape(decode(ids[:_TOKENS])), escape(decode(ids[-_TOKENS:])))
    return f'<span class="text" dir="auto">{f" <small>[{left_out:,} tokens]</small> ".join(ends)}</span>'


def _figure(seen: "Preview", picture: _Picture, is_drawn: bool) -> str:
    """A picture with the place of its `<BoI>`; dashed where it is to be foretold and not shown."""
    told = "foretold from what stands before" if picture.is_pair else "not foretold"
    kind = "" if picture.is_shown else ' class="foretold"'
    slots = f"{seen.slots} slots" if picture.is_shown else "no slots"
    crop = f'<img{kind} alt="" src="data:image/png;base64,{_png(seen, picture.number)}">' if is_drawn else ""
    return f"<figure>{crop}<figcaption>&lt;BoI&gt; at {picture.at:,} · {slots} · {told}</figcaption></figure>"


def _png(seen: "Preview", number: int) -> str:
    """The crop in base64, grey where it is hidden from the encoder."""
    pixels = seen.batch.pixels[number].permute(1, 2, 0).numpy().copy()
    if len(seen.batch.hidden):
        side = isqrt(seen.slots)
        square = np.ones((pixels.shape[0] // side, pixels.shape[1] // side), np.bool_)
        pixels[np.kron(seen.batch.hidden[number].numpy().reshape(side, side), square)] = _GREY
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode()
