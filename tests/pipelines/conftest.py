"""A small drawn corpus and the work folder of its whole road, made once; tests leave them whole."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lcl_data.engine import Engine
from pipelines.console import Console
from pipelines.corpus import Truth, draw_corpus
from pipelines.host import serve
from pipelines.road import walk
from tests.pipelines.small import settings, tiny
from tests.storage import Storage

# A process of its own: Ray's threads and warnings stay out of this one.
CLUSTER = """
import os, sys, warnings
warnings.simplefilter("ignore")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster
cluster = Cluster()
for _ in range(2):
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


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


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Address of a Ray cluster of two nodes on this machine."""
    yield from _cluster()


@pytest.fixture
def cluster_for_storage(storage: Storage) -> Iterator[str]:
    """One whose nodes have the credentials of the storage."""
    yield from _cluster()


def _cluster() -> Iterator[str]:
    pytest.importorskip("ray")
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
