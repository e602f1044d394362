import json
from dataclasses import replace
from math import log
from typing import get_args

import pytest
import torch
from rich.console import Console
from torch.nn import functional

from lcl_data.shards import Shards
from lcl_train import checkpoint, parallel, step_folders
from lcl_train.collate import IGNORED
from lcl_train.diagnostics import effective_rank
from lcl_train.ema import Average
from lcl_train.loader import Fitting, Loader
from lcl_train.loop import train
from lcl_train.model import LCLModel
from lcl_train.run import find_objective
from lcl_train.speed import SpeedSettings, hasten
from lcl_train.task import Task
from lcl_train.validation import Validation
from tests.lcl_train import ranks, tiny

QUIET = Console(quiet=True)
DOCUMENTS = [tiny.document(number, pictures=1 + number % 3) for number in range(200)]
KINDS = get_args(parallel.Kind)
NBYTES = torch.tensor([3] * 64 + [0] * 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    documents = [{**each, "source": "even" if n % 2 else "odd"} for n, each in enumerate(DOCUMENTS)]
    return tiny.write_shards(tmp_path_factory.mktemp("shards"), documents)


def build(folder, seed=0, workers=1, nbytes=NBYTES, kind="ddp", **changes):
    settings = tiny.settings(**changes)
    sizes = settings.model_settings(tiny.SPECIALS.vocab_size)
    torch.manual_seed(0)
    objective = find_objective(settings)
    task = Task(LCLModel(sizes, objective.heads(sizes)), objective)
    parallel.wrap(task, kind, task.model.blocks, torch.device("cpu"))
    fitting = Fitting(
        settings.rows, settings.pack, 4, 16, seed, min_images=1, holdout=0.01, layout=objective.layout
    )
    fitting = replace(fitting, accumulate=settings.accumulate)
    loader = Loader(Shards(folder), fitting, workers)
    return Validation(loader, task, nbytes, False), task, loader


def asked_twice(folder, kind):
    """What is found of averages, here half of each weight, and then of the weights themselves."""
    validation, task, _ = build(folder, kind=kind)
    average = Average(task.model, 0.9)
    average.load({name: parallel.whole(weight) / 2 for name, weight in average.weights.items()})
    with average.shown():
        found = {f"average|{name}": value for name, value in validation().items()}
    return found | {f"own|{name}": value for name, value in validation().items()}


def validated(folder):
    """What a rank finds with whole and with sharded weights."""
    found = {(kind, name): value for kind in KINDS for name, value in asked_twice(folder, kind).items()}
    return {"|".join(key): torch.tensor(value, dtype=torch.float64) for key, value in found.items()}


def test_the_numbers_are_those_of_plain_definitions(folder):
    validation, task, loader = build(folder, objective={"lcl": {"contrast": {"mask_copies": False}}})
    found = validation()
    nats, texts, latents, contexts, keys = [], [], [], [], []
    held = Loader(loader.shards, replace(loader.fitting, rows=1, seed=0, holdout=0.0), 1, loader.held)
    with torch.no_grad():
        for batch in held.once():
            outputs = task.model(batch)
            logits = task.model.head(task.model.head_norm(outputs.stream[batch.label_position]))
            nats.append(functional.cross_entropy(logits, batch.labels, reduction="none"))
            texts.append(batch.labels)
            assert (batch.labels != IGNORED).all()
            latents.append(outputs.latents[batch.pair_image])
            contexts.append(task.model.foretell(outputs.stream[batch.pair_position]))
            keys.append(batch.image_keys[batch.pair_image])
    nats, texts = torch.cat(nats), torch.cat(texts)
    latents, contexts = (functional.normalize(torch.cat(each), dim=-1) for each in (latents, contexts))
    n = len(latents)
    assert len(set(torch.cat(keys).tolist())) == n == found["val/pool"]
    logits = task.model.logit_scale.exp() * latents @ contexts.T
    both = (functional.cross_entropy(each, torch.arange(n)) for each in (logits, logits.T))
    contrastive = (sum(both) / 2).item()
    assert found["val/generation"] == pytest.approx(nats.mean().item(), rel=1e-5)
    assert found["val/contrastive"] == pytest.approx(contrastive, rel=1e-4)
    assert found["val/total"] == pytest.approx(nats.mean().item() + 0.1 * contrastive, rel=1e-5)
    assert found["val/bound"] == pytest.approx(log(n) - contrastive, rel=1e-4)
    ranked = logits.argsort(0, descending=True)[:5] == torch.arange(n)
    assert found["val/recall_at_1"] == pytest.approx(ranked[:1].any(0).float().mean().item())
    assert found["val/recall_at_5"] == pytest.approx(ranked.any(0).float().mean().item())
    text = texts < 64
    assert found["val/bits_per_byte"] == pytest.approx(
        nats[text].sum().item() / text.sum().item() / 3 / log(2)
    )
    assert found["val/latent_rank"] == pytest.approx(effective_rank(latents).item(), rel=0.1)


def test_sources_are_told_apart_and_add_up(folder):
    found = build(folder)[0]()
    for term in ("generation", "contrastive"):
        low, high = sorted([found[f"val/{term}/odd"], found[f"val/{term}/even"]])
        assert low < found[f"val/{term}"] < high
    assert {"val/recall_at_1/odd", "val/recall_at_1/even"} <= found.keys()


def test_neither_seed_nor_threads_nor_asking_before_change_the_numbers(folder):
    validation, *_ = build(folder)
    first = validation()
    assert validation() == first
    assert build(folder, seed=7, workers=3)[0]() == first
    assert build(folder, rows=5, accumulate=5)[0]() == first


def test_two_ranks_tell_what_one_tells(folder, tmp_path):
    alone = asked_twice(folder, "ddp")
    own = build(folder)[0]()
    assert {name: alone[f"own|{name}"] for name in own} == own
    assert alone["own|val/total"] != alone["average|val/total"]
    for found in ranks.run(validated, tmp_path, folder):
        for kind in KINDS:
            values = {name: found[f"{kind}|{name}"].item() for name in alone}
            assert values == pytest.approx(alone, rel=1e-5), kind


def test_without_byte_lengths_nothing_is_said_of_bytes(folder):
    found = build(folder, nbytes=None)[0]()
    assert "val/bits_per_byte" not in found and "val/generation" in found


def test_looking_changes_nothing_that_is_learnt(folder, tmp_path):
    often, seldom = tiny.settings(validate_every_steps=2), tiny.settings(validate_every_steps=100)
    for name, settings in (("often", often), ("seldom", seldom)):
        train(folder, tmp_path / name, settings, "never", QUIET)
    assert tiny.losses(tmp_path / "often") == tiny.losses(tmp_path / "seldom")
    lines = [json.loads(line) for line in (tmp_path / "seldom/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val/total" in line] == [20]


def test_a_network_that_learnt_shows_that_its_text_uses_its_images(folder, tmp_path):
    settings = tiny.settings(steps=80, rows=6, optimizer={"lr": 1e-2, "weight_decay": 0.0}, log_every=80)
    settings = settings.model_copy(update={"objective": {"lcl": {"contrastive_weight": 1.0}}})
    train(folder, tmp_path, settings, "never", QUIET)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    untrained = build(folder)[0]()
    for name in ("shuffled", "blank"):
        assert abs(untrained[f"val/image_gain_{name}"]) < 0.05
        assert last[f"val/image_gain_{name}"] > 0.2
    assert last["val/recall_at_1"] > 2 * untrained["val/recall_at_1"]
    assert last["val/total"] < untrained["val/total"]


def test_the_checkpoint_of_the_lowest_loss_on_held_out_documents_is_kept(folder, tmp_path):
    settings = tiny.settings(
        steps=12, validate_every_steps=2, save_every_steps=100, keep_last=1, optimizer={"lr": 0.3}
    )
    train(folder, tmp_path, settings, "never", QUIET)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["val/total"] for line in lines if "val/total" in line}
    step = min(losses, key=losses.get)
    assert len(losses) == 6
    kept = checkpoint.read_state(checkpoint.locate(tmp_path)).best
    assert (kept.step, kept.metric, kept.value) == (step, "val/total", losses[step])
    found = [checkpoint.read_state(path).step for path in step_folders.checkpoints(tmp_path / "checkpoints")]
    assert found == sorted({step, 12})
    assert checkpoint.read_state(checkpoint.locate(tmp_path / "best")).step == step


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo asks, and hides it elsewhere
def test_looking_compiles_nothing(folder):
    from torch._dynamo.utils import counters

    expected = build(folder)[0]()
    validation, task, loader = build(folder)
    hasten(task.model, SpeedSettings(compile=True), backend="eager")
    batches = iter(loader)
    task(next(batches))
    batches.close()
    before = counters["stats"]["unique_graphs"]
    assert before > 0
    assert validation() == pytest.approx(expected)
    assert counters["stats"]["unique_graphs"] == before
