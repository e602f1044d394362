"""Freed memory is used again without a page fault."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from lcl_data.freed_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        pixels = [np.ones((300, 400, 4), np.uint8) for _ in range(4)]
        del pixels
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
keep_freed_memory()
faults()
print(given_back, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library cannot be told")
def test_freed_memory_is_used_again():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    given_back, kept = map(int, run.stdout.split())
    assert given_back > 5_000, "400 pages each: else there is nothing to keep"
    assert kept < 100
