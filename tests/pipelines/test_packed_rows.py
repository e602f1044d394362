"""The page of rows shows what a run learns from, whole, and lets no text of a corpus become markup."""

import base64
import io
from collections import Counter
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcl_data.shards import Shards
from lcl_train.preview import Preview, preview
from lcl_train.settings import Train
from pipelines.console import Console
from pipelines.inspection import inspect
from pipelines.packed_rows import write_rows
from tests.lcl_train import tiny

HOSTILE = '"><script>alert(1)</script><img src="http://evil/x.png" onerror=alert(1)>'
TAGS = {
    *("html", "meta", "title", "style", "h1", "h2", "h3", "p", "code", "svg", "rect", "text", "main"),
    *("article", "bdi", "small", "span", "figure", "figcaption", "img"),
}


class Reader(HTMLParser):
    """Every tag with what it was given, and all text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.said: list[tuple[str, str]] = []  # with the tag before it
        self.feed(page.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.said.append((self.tags[-1][0] if self.tags else "", data))

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.said)

    def given(self, tag: str) -> list[dict[str, str]]:
        return [given for name, given in self.tags if name == tag]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = [tiny.document(n, pictures=1 + n % 3) for n in range(60)]
    hostile = [{**each, "id": f"{HOSTILE}{n}", "source": HOSTILE} for n, each in enumerate(documents)]
    return tiny.write_shards(tmp_path_factory.mktemp("shards"), hostile)


def decode(ids: list[int]) -> str:
    return f"{HOSTILE} {ids}"


def drawn(shards: Path, page: Path, **changes: object) -> tuple[Preview, Reader]:
    settings: Train = tiny.settings(rows=4, **changes)
    seen = preview(Shards(shards), settings, 32)
    write_rows(seen, shards, decode, page)
    return seen, Reader(page)


def test_the_rows_are_those_of_the_first_step(shards: Path, tmp_path: Path) -> None:
    seen, page = drawn(shards, tmp_path / "rows.html")
    lengths, owners = seen.batch.segments.lengths, seen.batch.documents
    starts = list(accumulate(lengths, initial=0))[:-1]
    whole = [rect for rect in page.given("rect") if rect.get("class") != "slots"]
    scale = (1180 - 28 - 60) / 64
    expected = [28 + start % 64 * scale for start in starts]
    assert [float(rect["x"]) for rect in whole] == pytest.approx(expected, abs=0.06)
    assert [float(rect["width"]) for rect in whole] == pytest.approx([n * scale for n in lengths], abs=0.06)
    assert [rect.get("class") == "empty" for rect in whole] == [not owner for owner in owners]
    assert len(page.given("rect")) - len(whole) == seen.batch.n_images
    told = Counter[int]()
    for start, length, owner in zip(starts, lengths, owners, strict=True):
        told[start // 64] += length * bool(owner)
    labels = [text for tag, text in page.said if tag == "text" and text.strip()]
    assert labels == [each for row in range(4) for each in (str(row + 1), f"{told[row] / 64:.1%}")]


def test_the_pictures_are_the_crops_of_the_batch(shards: Path, tmp_path: Path) -> None:
    seen, page = drawn(shards, tmp_path / "rows.html")
    crops = seen.batch.pixels.permute(0, 2, 3, 1).numpy()
    shown = [given["src"].removeprefix("data:image/png;base64,") for given in page.given("img")]
    assert shown
    for at, encoded in enumerate(shown):
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(encoded)))), crops[at])


def test_of_many_pictures_the_first_are_drawn_and_all_are_told(tmp_path: Path) -> None:
    folder = tiny.write_shards(tmp_path / "shards", [tiny.document(n, pictures=7) for n in range(4)])
    _, page = drawn(folder, tmp_path / "rows.html", holdout=0.0)
    cards = len(page.given("article"))
    assert len(page.given("img")) == 6 * cards and len(page.given("figcaption")) == 7 * cards > 0


@pytest.mark.parametrize("objective", ["lcl", "blip2", "masked"])
def test_no_text_of_a_corpus_becomes_markup(shards: Path, tmp_path: Path, objective: str) -> None:
    _, page = drawn(shards, tmp_path / "rows.html", objective=objective)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert not [name for _, given in page.tags for name in given if name.startswith("on") or name == "href"]
    assert all(given["src"].startswith("data:image/png;base64,") for given in page.given("img"))
    assert HOSTILE in page.text
    (policy,) = (given["content"] for given in page.given("meta") if "http-equiv" in given)
    assert policy.startswith("default-src 'none'")


def test_the_page_depends_on_shards_and_settings_alone(shards: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        drawn(shards, tmp_path / f"{workers}.html", workers=workers)
    assert (tmp_path / "0.html").read_bytes() == (tmp_path / "2.html").read_bytes()


def test_a_preview_is_the_first_batch_of_a_run(shards: Path, tmp_path: Path) -> None:
    from lcl_train.run import Run

    settings: Train = tiny.settings(rows=4)
    batch = next(iter(Run(Shards(shards), tmp_path, settings).loader))
    seen = preview(Shards(shards), settings, 3).batch
    assert seen.tokens.tolist() == batch.tokens[: 3 * 64].tolist()
    assert np.array_equal(seen.pixels.numpy(), batch.pixels[: len(seen.pixels)].numpy())


def test_inspect_draws_the_rows_of_shards(walked: Path, tmp_path: Path) -> None:
    page = tmp_path / "rows.html"
    inspect(walked / "shards", "", Console(as_json=False), page, settings=["pack.row_tokens=256"])
    found = Reader(page)
    assert "shards: the first rows of nano, lcl" in found.text and "Rows of 256 positions" in found.text
    assert found.given("img") and "<start_of_text>" in found.text
