import pytest
import torch

from lcl_train import parallel
from schemas.errors import RecipeError

LAUNCHED = {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.fixture
def launched(monkeypatch):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)


def test_a_process_on_its_own_is_the_main_one_of_one():
    assert (parallel.rank(), parallel.world(), parallel.is_main()) == (0, 1, True)
    assert parallel.total([2, 3]) == [2, 3] and parallel.largest(4) == 4
    with parallel.joined(torch.device("cpu")):
        assert parallel.world() == 1


@pytest.mark.parametrize("missing", LAUNCHED)
def test_a_number_of_a_rank_alone_is_no_launch(monkeypatch, launched, missing):
    assert parallel.is_launched() and not parallel.is_main()
    monkeypatch.delenv(missing)  # schedulers set some of these too
    assert not parallel.is_launched() and parallel.is_main()


def test_ranks_that_would_share_a_gpu_are_refused(launched):
    with pytest.raises(RecipeError, match="device cuda:1: every rank takes a GPU of its own; give cuda"):
        parallel.own_device(torch.device("cuda:1"))


@pytest.mark.skipif(torch.cuda.device_count() > 3, reason="there is a GPU for every rank")
def test_more_ranks_than_gpus_are_refused(launched):
    with pytest.raises(RecipeError, match=r"rank 3: this machine has \d GPUs; give --nproc-per-node"):
        parallel.own_device(torch.device("cuda"))
    assert parallel.own_device(torch.device("cpu")) == torch.device("cpu")
