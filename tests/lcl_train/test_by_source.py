"""The losses of sources add up to the loss of the whole; over ranks: test_distributed.py."""

import json
from itertools import islice

import pytest
import torch
from rich.console import Console

from lcl_data.shards import Shards
from lcl_train import accumulate
from lcl_train.by_source import by_source, means_by_source
from lcl_train.loader import Fitting, Loader
from lcl_train.loop import train
from lcl_train.model import LCLModel
from lcl_train.objectives import Objective
from lcl_train.task import Task
from schemas.members import build, names
from tests.lcl_train import tiny

SOURCES = ("even", "odd")
PLACES = {"generation": "label_position", "contrastive": "pair_position"}


def documents(count, sources=SOURCES):
    return [
        {**tiny.document(n, pictures=1 + n % 3), "source": sources[n % len(sources)]} for n in range(count)
    ]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny.write_shards(tmp_path_factory.mktemp("shards"), documents(24))


def task_and_loader(shards, name, **changes):
    objective, sizes = build("lcl_train.objectives", name, Objective), tiny.settings().model_settings(70)
    torch.manual_seed(0)
    task = Task(LCLModel(sizes, objective.heads(sizes)), objective)
    fitting = Fitting(6, tiny.settings().pack, 4, 16, 0, layout=objective.layout, **changes)
    return task, Loader(Shards(shards), fitting, 0)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("name", names("lcl_train.objectives"))
def test_sources_weighed_by_their_counts_give_the_loss_of_the_whole(shards, name, parts):
    task, loader = task_and_loader(shards, name, accumulate=parts)
    given = list(islice(loader, parts))
    loss = accumulate.backward(task, task, given, is_half=False)
    means = means_by_source(given, loss.each)
    assert set(means) == {f"{term}/{source}" for term in loss.each for source in SOURCES}
    assert set(loss.each) == {term for term in PLACES if term in loss.parts}
    for term, losses in loss.each.items():
        split = torch.split(losses, [len(getattr(batch, PLACES[term])) for batch in given])
        counts = dict.fromkeys(SOURCES, 0)
        for batch, part in zip(given, split, strict=True):
            for source, (_, n) in by_source(batch, getattr(batch, PLACES[term]), part).items():
                counts[source] += n
        assert sum(counts.values()) == loss.counts[term]
        weighed = sum(counts[source] * means[f"{term}/{source}"] for source in SOURCES)
        assert weighed / loss.counts[term].item() == pytest.approx(loss.parts[term].item(), rel=1e-6)


def test_the_loss_of_a_source_is_that_of_its_documents_on_their_own(tmp_path):
    """Text is told within a document, so that those of another source change nothing."""
    rows, seen = documents(6), {}
    for name, chosen in (("both", rows), ("even", rows[::2]), ("odd", rows[1::2])):
        task, loader = task_and_loader(tiny.write_shards(tmp_path / name, chosen), "generation")
        (batch,) = loader.once()
        seen[name] = batch, task(batch)
    batch, loss = seen.pop("both")
    found = means_by_source([batch], loss.each)
    for source, (batch, loss) in seen.items():
        assert found[f"generation/{source}"] == pytest.approx(loss.parts["generation"].item(), rel=1e-5)
        assert means_by_source([batch], loss.each) == {}


def test_a_run_tells_its_sources_and_one_of_a_single_source_does_not(tmp_path):
    told = {}
    for name, sources in (("mixed", SOURCES), ("plain", SOURCES[:1])):
        shards = tiny.write_shards(tmp_path / "shards" / name, documents(64, sources))
        train(shards, tmp_path / name, tiny.settings(steps=3, rows=8), "never", Console(quiet=True))
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        told[name] = [{key for key in line if key.count("/") == 2} for line in lines]
    expected = {f"loss/{term}/{source}" for term in PLACES for source in SOURCES}
    assert all(keys & expected == expected for keys in told["mixed"])
    assert told["plain"] == [set()] * 3
