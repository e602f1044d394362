"""Keeps pandas out of our processes: pyarrow imports it at its first conversion wherever it is installed.

Nothing of ours hands pandas objects to pyarrow, yet each process would pay 1.2 CPU-seconds for the import.
Called by the command line and by the workers, not on import, because a program that merely uses LCL as a
library may well give pyarrow a pandas series.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _Absent(MetaPathFinder):
    """Says that there is no pandas."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out", name=name)


def keep_pandas_out() -> None:
    """Have pyarrow look for pandas once, now, and not find it; `to_pandas` still imports it when called."""
    if "pandas" in sys.modules:
        return
    import pyarrow as pa  # here, so that a worker can start without it

    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.array([None])
    finally:
        sys.meta_path.remove(absent)
