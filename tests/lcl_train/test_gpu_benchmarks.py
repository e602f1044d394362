"""The scripts for accelerators run on a CPU, so that they are not written for the drawer."""

import json
from dataclasses import replace

import pytest

from benchmarks.gpu import bench, check
from lcl_data.shards import Shards
from lcl_train.collate import Batch
from lcl_train.run import Run
from lcl_train.settings import Train
from schemas.overrides import nested, settle

NANO = ["preset=nano", "rows=2", "workers=1", "pack.row_tokens=256", "device=cpu"]


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo's
def test_the_check_passes_on_a_cpu(capsys):
    arguments = ["--device", "cpu", "--preset", "nano", "--row-tokens", "256", "--backend", "aot_eager"]
    assert check.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(check.ways("cpu")) + 1 and all("is_right=True" in line for line in lines)


def test_the_check_finds_what_is_wrong(tmp_path, monkeypatch):
    """Attention that looks ahead is told from attention that does not."""
    shards = Shards(check.draw(tmp_path / "shards", documents=40, side=32, distinct=3))
    run = Run(shards, tmp_path / "run", settle(Train, {**nested(NANO), "steps": 2}))
    batch, way = next(iter(run.loader)), check.ways("cpu")[0]
    assert check.compare(run.sizes, batch, way, "cpu", "aot_eager")["is_right"]
    ahead = replace(batch, segments=replace(batch.segments, causal=False))
    monkeypatch.setattr(Batch, "to", lambda self, device: ahead)
    assert not check.compare(run.sizes, batch, way, "cpu", "aot_eager")["is_right"]


@pytest.mark.slow
def test_the_benchmark_counts_the_work_of_its_run(tmp_path, capsys):
    arguments = ["--documents", "40", "--steps", "2", "--warm", "1", "--json", str(tmp_path / "found.json")]
    settings = [word for setting in NANO for word in ("--set", setting)]
    bench.main([*arguments, *settings, "--profile", str(tmp_path / "table.txt")])
    found = json.loads((tmp_path / "found.json").read_text())
    for name in ("end to end", "step", "loader"):
        assert found[name]["steps"] == 2 and found[name]["images_per_s"] > 0
        assert 0.5 < found[name]["fill"] <= 1 and found[name]["mfu"] is None
    assert found["loader"]["images_per_s"] > found["end to end"]["images_per_s"]
    assert "aten::" in (tmp_path / "table.txt").read_text()
