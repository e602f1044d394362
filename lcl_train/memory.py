"""Memory of the process and of its device: what is in use, what was at most, and what is kept when freed."""

import ctypes
import os
import sys
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_TRIM_BYTES, _PAD_BYTES = (1 << 31) - 1, 1 << 26


def keep_freed_memory() -> None:
    """Tell glibc's malloc to map no large blocks and to give no memory back; elsewhere do nothing.

    It otherwise maps and unmaps every large tensor, page by page.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in other C libraries, such as musl
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_M_TOP_PAD, _PAD_BYTES)


def resident() -> int:
    """Bytes of memory that the process holds now; 0 where the system does not tell."""
    return _told("VmRSS")


def forget_peak(device: torch.device) -> None:
    """Have `peak` tell of what comes after this."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _FORGET.exists():
        _FORGET.write_text("5")


def peak(device: torch.device) -> int | None:
    """Most bytes in use at once: of tensors on CUDA, else of the whole process; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _told("VmHWM") or None


def capacity(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _told(name: str) -> int:
    """Bytes of an entry of the process's status."""
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
