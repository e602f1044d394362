"""Datasets of the Hugging Face Hub as input, from Olah (a mirror of the Hub) on loopback, which serves git
repositories of this machine. It wants another psutil than ours, so it lives in an environment of its own:

    pip install olah                                  # there
    PATH=$PATH:THERE/bin pytest tests/pipelines/test_hub.py

It only reads: of `hf://` as output there is no test.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from pipelines.corpus import Truth
from tests.lcl_data.corpus import bytes_of

OLAH = shutil.which("olah-cli")
pytestmark = [
    pytest.mark.skipif(OLAH is None, reason="needs olah-cli, from an environment of its own"),
    pytest.mark.slow,
]
LCL = "from pipelines.cli import main; main()"
CONFIG = """
[basic]
host = "127.0.0.1"
port = {port}
repos-path = "{root}/cache"
hf-scheme = "http"
hf-netloc = "127.0.0.1:9"
mirror-scheme = "http"
mirror-netloc = "127.0.0.1:{port}"
mirrors-path = ["{root}/mirrors"]
[accessibility]
offline = true
"""


@pytest.fixture(scope="module")
def documents(corpus: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("documents") / "documents"
    ingest(corpus[0] / "mmc4" / "data", out, Ingest(format="mmc4"), Engine())
    return out


@pytest.fixture(scope="module")
def hub(
    corpus: tuple[Path, Truth], documents: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A server with a dump and a folder of documents; the environment that leads to it."""
    root = tmp_path_factory.mktemp("hub")
    repository = root / "mirrors" / "datasets" / "team" / "corpus"
    shutil.copytree(corpus[0] / "mmc4" / "data", repository / "data")
    shutil.copytree(documents, repository / "documents")
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@host.example")
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", "corpus"]):
        subprocess.run(["git", *arguments], cwd=repository, check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (root / "config.toml").write_text(CONFIG.format(port=port, root=root))
    assert OLAH is not None
    command = [OLAH, "-c", str(root / "config.toml"), "--log-path", str(root / "log")]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until = time.monotonic() + 60
        while not answers(port):
            assert server.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        yield {
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HOME": str(root / "home"),
            "HF_HUB_OFFLINE": "0",
        }
        server.terminate()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def lcl(environment: dict[str, str], *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LCL, *arguments, "--json", "-w", "2"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: the torn zip of the dump
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_dump_of_the_hub_is_ingested_as_one_of_this_machine(
    hub: dict[str, str], documents: Path, tmp_path: Path
) -> None:
    out = tmp_path / "documents"
    lcl(hub, "ingest", "mmc4", "hf://datasets/team/corpus@main/data", str(out))
    assert bytes_of(out) == bytes_of(documents)


def test_documents_of_the_hub_are_filtered_and_deduplicated_as_those_of_this_machine(
    hub: dict[str, str], documents: Path, tmp_path: Path
) -> None:
    there = "hf://datasets/team/corpus@main/documents"
    for name, here in (("hub", there), ("local", str(documents))):
        lcl(hub, "filter", here, str(tmp_path / name / "filtered"), "-u", "text_length: {min_words: 20}")
        lcl(
            hub,
            "dedupe",
            here,
            str(tmp_path / name / "deduplicated"),
            "-u",
            "exact_document",
            "-u",
            "near_document",
        )
    for stage in ("filtered", "deduplicated"):
        assert bytes_of(tmp_path / "hub" / stage) == bytes_of(tmp_path / "local" / stage)
