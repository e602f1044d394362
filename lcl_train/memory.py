"""Keeps freed memory in the process: glibc otherwise maps and unmaps every large tensor, page by page."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TRIM_BYTES, _PAD_BYTES = (1 << 31) - 1, 1 << 26


def keep_freed_memory() -> None:
    """Tell glibc's malloc to map no large blocks and to give no memory back; elsewhere do nothing."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in other C libraries, such as musl
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_M_TOP_PAD, _PAD_BYTES)
