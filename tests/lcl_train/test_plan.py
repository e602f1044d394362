import pytest

from lcl_data.shards import Shards
from lcl_train.plan import plan
from lcl_train.run import Run
from tests.lcl_train import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    documents = [tiny.document(number, pictures=1 + number % 3) for number in range(200)]
    return tiny.write_shards(tmp_path_factory.mktemp("shards"), documents)


@pytest.fixture(scope="module")
def found(folder):
    return plan(Shards(folder), tiny.settings(steps=None, epochs=2.0))


def test_parameters_and_steps_are_those_of_the_run(found, folder, tmp_path):
    run = Run(Shards(folder), tmp_path, tiny.settings(steps=None, epochs=2.0))
    assert found["parameters"]["all"] == run.parameters
    assert found["parameters"]["encoder"] == sum(p.numel() for p in run.model.vision.parameters())
    assert found["length"]["steps"] == run.steps
    assert found["length"]["documents"] == run.loader.documents
    assert found["length"]["epochs"] == pytest.approx(2, rel=0.2)


def test_a_step_holds_what_batches_hold(found, folder, tmp_path):
    run = Run(Shards(folder), tmp_path, tiny.settings())
    batches = iter(run.loader)
    seen = [next(batches) for _ in range(100)]
    batches.close()
    rows = found["rows"]
    assert rows["tokens_per_step"] == pytest.approx(sum(b.n_tokens for b in seen) / 100, rel=0.02)
    assert rows["images_per_step"] == pytest.approx(sum(b.n_images for b in seen) / 100, rel=0.05)
    assert rows["fill"] == pytest.approx(rows["tokens_per_step"] / 128)
    needed = [run.meter.count(batch)[0] for batch in seen]
    assert found["flops"]["step"] == pytest.approx(sum(needed) / 100, rel=0.2)


def test_the_estimate_of_memory_is_near_the_measured_peak(found):
    memory = found["memory"]
    assert 0.8 < memory["estimate_to_peak"] < 1.1
    assert memory["activations_recomputed"] < memory["activations"]
    assert memory["estimate"] < memory["device_has"]


def test_what_does_not_fit_is_not_tried(folder, monkeypatch):
    monkeypatch.setattr("lcl_train.plan.capacity", lambda device: 10_000_000)  # a very small machine
    found = plan(Shards(folder), tiny.settings())
    assert found["memory"]["estimate"] > found["memory"]["device_has"] == 10_000_000
    assert found["memory"]["measured_peak"] is None and found["time"]["step_s"] is None
    assert {"hours", "mfu", "load_s"} <= found["time"].keys()


def test_time_is_measured_and_the_share_of_a_cpu_is_not_known(found):
    time = found["time"]
    assert time["step_s"] == pytest.approx(time["compute_s"] + time["load_s"])
    assert time["hours"] == pytest.approx(time["step_s"] * found["length"]["steps"] / 3600)
    assert time["mfu"] is None
