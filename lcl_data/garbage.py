"""Python's collector of cycles, kept from looking for some among a great many objects that have none."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_COLLECT_AFTER = 200_000  # objects made and not freed, between two collections of cycles


@contextmanager
def collected_rarely() -> Iterator[None]:
    """For a time with many objects and few cycles, such as errors make: reading documents took a fifth less
    with it, fetching pictures a tenth. Not switched off, so that what few there are do not add up.
    """
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
