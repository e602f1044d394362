"""Memory that is kept for the next picture instead of being given back after each."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_NBYTES = 32 << 20  # the most that glibc takes; what a larger picture needs is given back as ever


def keep_freed_memory() -> None:
    """Have this process keep up to `_NBYTES` of what it has freed, where the C library can be told to.

    The pixels of a picture are several arrays of half a megabyte. glibc may give each back to the system when
    it is freed; asked for anew, they cost a page fault for every 4 KiB, which is dear on a virtual machine.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # not on macOS
        for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            library.mallopt(threshold, _NBYTES)
