import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.console import Console
from pipelines.curves import write_page
from pipelines.inspection import inspect
from schemas.errors import RecipeError

LINES = [
    {"step": step, "loss/total": 10 / step, "lr": 1e-3, "mfu": None, "val/generation/a<b": 2.0 + step}
    for step in range(1, 1001)
]
LINES[499]["val/total"] = 3.5
LINES[999]["val/total"] = 2.5


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    lines = [json.dumps(line) for line in LINES]
    (tmp_path / "run/metrics.jsonl").write_text("\n".join([*lines, '{"step": 1001, "lo']))
    return tmp_path / "run"


class Reader(HTMLParser):
    """Points of every polyline, by chart; tags that would run or fetch something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.curves: dict[str, list[list[tuple[float, float]]]] = {}
        self.unwanted: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "link", "img", "iframe") or "src" in given or "href" in given:
            self.unwanted.append(tag)
        if tag == "svg":
            self.chart = str(given["aria-label"])
            self.curves[self.chart] = []
        if tag == "polyline":
            points = [tuple(map(float, pair.split(","))) for pair in str(given["points"]).split()]
            self.curves[self.chart].append(points)  # type: ignore[arg-type]


def test_every_number_is_drawn_training_beside_what_is_held_out(run: Path, tmp_path: Path) -> None:
    write_page(run, tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text("utf-8")
    found = Reader(page)
    assert found.curves.keys() == {"total", "lr", "generation"}
    assert [len(curve) for curve in found.curves["total"]] == [334, 2]
    training, held = found.curves["total"]
    assert [y for _, y in training] == sorted(y for _, y in training)  # the loss falls: y grows downwards
    assert all(0 <= x <= 420 and 0 <= y <= 220 for curve in (training, held) for x, y in curve)
    assert held[0][0] == pytest.approx((training[0][0] + training[-1][0]) / 2, abs=2)
    assert "a&lt;b" in page and "a<b" not in page and not found.unwanted
    assert re.search(r"<td>val/total<td>2\.5", page) and "step 1000" in page


def test_a_run_without_lines_is_a_page_without_charts(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    write_page(tmp_path, tmp_path / "run.html")
    assert not Reader((tmp_path / "run.html").read_text("utf-8")).curves


def test_inspect_writes_the_page_of_a_run_and_of_nothing_else(run: Path, tmp_path: Path) -> None:
    inspect(run, "", Console(as_json=False), tmp_path / "run.html")
    assert (tmp_path / "run.html").exists()
    with pytest.raises(RecipeError, match="--html draws the curves of a run, or rows of training shards"):
        inspect(tmp_path, "", Console(as_json=False), tmp_path / "other.html")
