"""The table of keys in docs/training.md and the keys of real runs are the same."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from lcl_data import tokenizer
from lcl_train.loop import train
from schemas.members import names
from tests.lcl_train import tiny

DOCS = Path(__file__).parents[2] / "docs/training.md"
SOURCES = ("even", "odd")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [{**tiny.document(n, pictures=2), "source": SOURCES[n % 2]} for n in range(60)]
    folder = tiny.write_shards(tmp_path_factory.mktemp("shards"), documents)
    tokenizer.train(["a b c"], 257, folder / "tokenizer.json")
    content = json.loads((folder / "tokenizer.json").read_text())
    words = sorted(content["model"]["vocab"])[: tiny.SPECIALS.sot]
    content["model"] |= {"vocab": {word: number for number, word in enumerate(words)}, "merges": []}
    (folder / "tokenizer.json").write_text(json.dumps({**content, "added_tokens": []}))
    return folder


def documented():
    section = DOCS.read_text(encoding="utf-8").split("\n## metrics.jsonl\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def logged(shards, out, objective):
    train(shards, out, tiny.settings(objective=objective, steps=1), "never", Console(quiet=True))
    keys = {key for line in (out / "metrics.jsonl").read_text().splitlines() for key in json.loads(line)}
    return {re.sub(f"/({'|'.join(SOURCES)})$", "/<source>", key) for key in keys}


def test_every_key_of_every_objective_is_documented_and_no_other(shards, tmp_path):
    found = set().union(*(logged(shards, tmp_path / name, name) for name in names("lcl_train.objectives")))
    listed = documented()
    assert len(listed) == len(set(listed))
    assert found == set(listed)
