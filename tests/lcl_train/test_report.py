import json
import time
from contextlib import ExitStack

import pytest
import torch
from rich.console import Console

from lcl_data.shards import Shards
from lcl_train import parallel
from lcl_train.flops import Meter, costs_of
from lcl_train.loader import Fitting, Loader
from lcl_train.model import LCLModel
from lcl_train.report import METRICS, Report
from tests.lcl_train import ranks, tiny

SETTINGS = tiny.settings(rows=4)


def batches(shards, rank, world):
    fitting = Fitting(SETTINGS.rows, SETTINGS.pack, 4, 16, seed=0, rank=rank, world=world)
    batches = iter(Loader(Shards(shards), fitting, 1))
    yield from (next(batches) for _ in range(3))
    batches.close()


def reported(out, shards):
    """Three steps told by this rank; what its console said, and its rates."""
    rank, world = parallel.rank(), parallel.world()
    meter = Meter(costs_of(LCLModel(SETTINGS.model_settings(tiny.SPECIALS.vocab_size))), None)
    with ExitStack() as closing:
        file = closing.enter_context((out.parent / f"said-{world}-{rank}").open("w"))
        console = Console(file=file, width=400)
        report = closing.enter_context(Report(out, SETTINGS, meter, (0, 3), console))
        report.say("begins")
        for step, batch in enumerate(batches(shards, rank, world), start=1):
            report.count([batch], 0.0)
            report.log(step, {"loss/total": 1.0 + rank})
        rates = report.rates()
    return {
        name: torch.tensor(rates[name]) for name in ("images_per_s", "tokens_per_s", "fill", "image_fill")
    }


@pytest.fixture
def shards(tmp_path):
    return tiny.write_shards(tmp_path / "shards", [tiny.document(n, 1 + n % 3) for n in range(40)])


def test_rates_are_of_all_ranks_and_rank_0_alone_speaks(shards, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        out.mkdir()
    alone = reported(one, shards)
    here, there = ranks.run(reported, tmp_path, two, shards)
    for name in ("fill", "image_fill"):
        assert alone[name] == here[name] == there[name]
    ratio = [found["images_per_s"] / found["tokens_per_s"] for found in (alone, here, there)]
    assert ratio == pytest.approx([ratio[0].item()] * 3)
    lines = [json.loads(line) for line in (two / METRICS).read_text().splitlines()]
    assert [(line["step"], line["loss/total"]) for line in lines] == [(1, 1.0), (2, 1.0), (3, 1.0)]
    said = (tmp_path / "said-2-0").read_text()
    assert said.startswith("begins\nstep 1/3 · total 1.0000") and "step 3/3" in said
    assert (tmp_path / "said-2-1").read_text() == ""


def test_time_aside_counts_in_no_rate(shards, tmp_path):
    meter = Meter(costs_of(LCLModel(SETTINGS.model_settings(tiny.SPECIALS.vocab_size))), None)
    with Report(tmp_path, SETTINGS, meter, (0, 3), Console(quiet=True)) as report:
        began = time.perf_counter()
        report.count([next(batches(shards, 0, 1))], 0.0)
        with report.aside():
            time.sleep(0.5)
        rates = report.rates()
        assert rates["step_s"] < time.perf_counter() - began - 0.5 + 0.01


def test_a_report_goes_on_after_the_steps_done(tmp_path):
    meter = Meter(costs_of(LCLModel(SETTINGS.model_settings(tiny.SPECIALS.vocab_size))), None)
    lines = [json.dumps({"step": step, "loss/total": 0.5}) for step in range(1, 6)]
    (tmp_path / METRICS).write_text("\n".join([*lines, '{"step": 6, "lo']))
    with Report(tmp_path, SETTINGS, meter, (3, 9), Console(quiet=True)):
        pass
    assert (tmp_path / METRICS).read_text().splitlines() == lines[:3]
