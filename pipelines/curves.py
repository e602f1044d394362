"""A run as one page of curves, drawn as SVG.

What is learnt and what is held out share a chart; every number of metrics.jsonl is drawn.
"""

import json
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.page import COLOURS, html_page

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 420, 220, 58, 24, 8
_POINTS = 400  # of a curve; of more lines, means of neighbours are drawn
_STYLE = """
main { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; } figcaption { font-weight: 600; }
.axis { stroke: currentColor; opacity: .35; } polyline { fill: none; stroke-width: 1.6; }
"""
_TERMS = {"loss": "training", "val": "held out"}


class Point(NamedTuple):
    """A value at a step."""

    step: float
    value: float


Curves = dict[str, list[Point]]


def write_page(run: Path, page: Path) -> None:
    """Draw the metrics.jsonl of a run.

    Args:
        run: folder of the run.
        page: the HTML file to write.
    """
    lines = list(_lines(run / "metrics.jsonl"))
    charts = "\n".join(_figure(name, curves) for name, curves in _charts(lines).items())
    last = lines[-1] if lines else {}
    rows = "".join(f"<tr><td>{escape(k)}<td>{escape(_told(v))}" for k, v in last.items())
    title = f"{run.resolve().name}: step {last.get('step', 0)}"
    body = f"<main>\n{charts}\n</main>\n<h2>Last line</h2>\n<table>{rows}</table>"
    page.write_text(html_page(title, _STYLE, body), encoding="utf-8")


def _lines(metrics: Path) -> Iterator[dict[str, Any]]:
    """The whole lines; a kill may have torn the last."""
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _charts(lines: Iterable[dict[str, Any]]) -> dict[str, Curves]:
    """Curves by chart and label."""
    charts: dict[str, Curves] = {}
    for line in lines:
        for key, value in line.items():
            if key != "step" and value is not None:
                chart, label = _place(key)
                charts.setdefault(chart, {}).setdefault(label, []).append(Point(line["step"], value))
    return charts


def _place(key: str) -> tuple[str, str]:
    """Chart and label: `loss/x` and `val/x` meet in chart x, `val/x/source` is a curve of its own there."""
    kind, _, rest = key.partition("/")
    if kind not in _TERMS:
        return key, _TERMS["loss"]
    name, _, source = rest.partition("/")
    return name, f"{_TERMS[kind]}, {source}" if source else _TERMS[kind]


def _figure(name: str, curves: Curves) -> str:
    drawn = {label: _thinned(points) for label, points in curves.items()}
    every = [point for points in drawn.values() for point in points]
    steps, values = [point.step for point in every], [point.value for point in every]
    x, y = _Scale(steps, _LEFT, _WIDTH - 8), _Scale(values, _HEIGHT - _BOTTOM, _TOP)
    ticks = "".join(
        f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_told(value)}</text>'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        for value in sorted({y.low, (y.low + y.high) / 2, y.high})
    )
    ends = "".join(
        f'<text x="{x(step):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{step:,.0f}</text>'
        for step, anchor in ((x.low, "start"), (x.high, "end"))
    )
    lines, legend = [], []
    for number, (label, points) in enumerate(drawn.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(point.step):.1f},{y(point.value):.1f}" for point in points)
        lines.append(f'<polyline stroke="{colour}" points="{path}"><title>{escape(label)}</title></polyline>')
        lines += [_dot(x(p.step), y(p.value), colour) for p in points if len(points) < 40]
        legend.append(f'<span style="color:{colour}">{escape(label)} {_told(curves[label][-1].value)}</span>')
    return (
        f"<figure><figcaption>{escape(name)}</figcaption>"
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{escape(name)}">'
        f"{ticks}{ends}{''.join(lines)}</svg>{' · '.join(legend)}</figure>"
    )


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>'


class _Scale:
    """Values to pixels, in a straight line."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        self.low, self.high, self._start, self._end = min(values), max(values), start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self._start + share * (self._end - self._start)


def _thinned(points: list[Point]) -> list[Point]:
    size = -(-len(points) // _POINTS)
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [Point(*(sum(each) / len(group) for each in zip(*group, strict=True))) for group in groups]


def _told(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
