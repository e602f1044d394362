"""A small drawn corpus and the work folder of its whole road, made once; tests leave them whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lcl_data.engine import Engine
from pipelines.console import Console
from pipelines.corpus import Truth, draw_corpus
from pipelines.host import serve
from pipelines.road import walk
from tests.pipelines.small import settings, tiny


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Truth]]:
    root = tmp_path_factory.mktemp("corpus")
    with serve(root / "www") as url:
        truth = draw_corpus(root, url, documents=150, workers=1, probe={"train": 40, "val": 20})
        yield root, truth


@pytest.fixture(scope="session")
def walked(corpus: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, _ = corpus
    work = tmp_path_factory.mktemp("work") / "whole"
    assert walk("demo", settings(root, work, *tiny(root)), Engine(), Console()) == 1  # one file is torn
    return work
