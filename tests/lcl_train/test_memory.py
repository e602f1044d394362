import mmap
import sys

import pytest
import torch

from lcl_train.memory import capacity, forget_peak, peak, resident

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


def test_the_peak_is_the_most_since_it_was_forgotten():
    forget_peak(CPU)
    before = peak(CPU)
    with mmap.mmap(-1, 200_000_000) as block:  # past malloc, which may have been told to keep what is freed
        for place in range(0, len(block), mmap.PAGESIZE):
            block[place] = 1
    assert peak(CPU) > before + 150_000_000
    forget_peak(CPU)
    assert peak(CPU) < before + 150_000_000
    assert 0 < resident() <= capacity(CPU)
