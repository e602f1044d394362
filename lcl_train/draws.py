"""Which documents come next: every source in a shuffled order of its own, each drawn in exact proportion.

An epoch shuffles the shards of a source, then the documents of one window of shards after the other. So only
the sizes of a window are in memory, the first document costs one window whatever the corpus holds, and two
numbers a source say where it stands.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lcl_data.shards import SUFFIX, Shards
from schemas.errors import RecipeError

# Documents shuffled together: 13 times the buffer of the paper's loader for pairs; of tars as many as that,
# because the sizes of their rows stand among their pictures, which a look brings in from the disk.
WINDOW_ROWS, TAR_WINDOW_ROWS = 1 << 16, 5000

Ints = NDArray[np.int64]
Choice = Callable[[Ints, Ints], NDArray[np.bool_]]  # rows and their pictures: which are drawn


class Drawn(NamedTuple):
    """A document as it is drawn.

    Attributes:
        row: of the shards.
        epoch: of its source.
        tokens: a picture counted as one.
        images: pictures.
    """

    row: int
    epoch: int
    tokens: int
    images: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Documents of some shards in the order of their drawing, without those that are not drawn.

    Attributes:
        end: rows of all epochs that have gone by after it.
        passed: int64 [n], rows of all epochs that have gone by after each document.
        drawn: int64 [n, 4], the fields of `Drawn`.
    """

    end: int
    passed: Ints
    drawn: Ints


class Source:
    """The endless documents of some shard files, epoch after epoch.

    Attributes:
        passed: rows gone by in all epochs, those that are not drawn counted too: all its state.
    """

    def __init__(self, shards: Shards, files: Ints, choice: Choice, seed: Sequence[int]) -> None:
        """Nothing is opened yet.

        Args:
            shards: of all sources.
            files: numbers of its files.
            choice: which of its rows are drawn.
            seed: of its order.
        """
        self._shards, self._files, self._choice, self._seed = shards, files, choice, list(seed)
        self.rows = int(np.diff(shards.starts)[files].sum())
        has_tars = any(shards.paths[number].suffix == SUFFIX["webdataset"] for number in files)
        self._window_rows = TAR_WINDOW_ROWS if has_tars else WINDOW_ROWS
        self.passed = 0
        self._window: _Window | None = None
        self._at = 0
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self._window_of = lru_cache(maxsize=1)(self._opened)

    def next(self) -> Drawn:
        """The next document; there must be one in an epoch (see `sample`)."""
        while self._window is None or self._at == len(self._window.passed):
            if self._window is not None:
                self.passed = self._window.end
            self._window = self._open(self.passed)
            self._at = int(np.searchsorted(self._window.passed, self.passed, "right"))
        self.passed = int(self._window.passed[self._at])
        drawn = Drawn(*self._window.drawn[self._at].tolist())
        self._at += 1
        return drawn

    def go_to(self, passed: int) -> None:
        """Go on after `passed` rows."""
        self.passed, self._window, self._at = passed, None, 0

    def epoch(self) -> Iterator[Drawn]:
        """The documents of the first epoch, from a standstill; where the source stands does not change."""
        place = 0
        while place < self.rows:
            window = self._open(place)
            yield from (Drawn(*fields) for fields in window.drawn.tolist())
            place = window.end

    def sample(self) -> tuple[Ints, float]:
        """The documents of the first window that has any, int64 [n, 4] as `Drawn`, and how many an epoch has.

        The number is exact where one window holds all.
        """
        place, window = 0, None
        while place < self.rows and (window is None or not len(window.drawn)):
            window = self._open(place)
            place = window.end
        drawn = np.zeros((0, 4), np.int64) if window is None else window.drawn
        return drawn, len(drawn) * self.rows / max(place, 1)

    def _shuffled(self, epoch: int) -> tuple[Ints, Ints]:
        """The files in the order of an epoch, and the rows before each."""
        files = np.random.default_rng([*self._seed, epoch]).permutation(self._files)
        return files, np.cumsum([0, *np.diff(self._shards.starts)[files]], dtype=np.int64)

    def _open(self, passed: int) -> _Window:
        """The window that holds the row after `passed` others."""
        epoch, place = divmod(passed, self.rows)
        _, starts = self._order(epoch)
        windows = starts[:-1] // self._window_rows
        return self._window_of(epoch, int(windows[np.searchsorted(starts, place, "right") - 1]))

    def _opened(self, epoch: int, number: int) -> _Window:
        files, starts = self._order(epoch)
        inside = np.flatnonzero(starts[:-1] // self._window_rows == number)
        first, sizes = self._shards.starts, [self._shards.file(int(n)) for n in files[inside]]
        rows = np.concatenate([np.arange(first[n], first[n + 1]) for n in files[inside]])
        tokens = np.concatenate([file.lengths() for file in sizes])
        images = np.concatenate([file.image_counts() for file in sizes])
        order = np.random.default_rng([*self._seed, epoch, number]).permutation(len(rows))
        drawn = np.stack([rows, np.full_like(rows, epoch), tokens, images], 1)[order]
        chosen = np.flatnonzero(self._choice(drawn[:, 0], drawn[:, 3]))
        begin = epoch * self.rows + int(starts[inside[0]])
        return _Window(begin + len(rows), begin + chosen + 1, drawn[chosen])


class Mixture:
    """Documents of several sources, as many of each as its weight says: at any moment less than one off.

    Attributes:
        sources: where documents come from.
        weights: of each; they add up to 1.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        """At the beginning of all sources.

        Args:
            sources: where documents come from.
            weights: of each, to be taken in proportion.

        Raises:
            RecipeError: not a positive weight for each.
        """
        if len(weights) != len(sources) or min(weights) <= 0:
            raise RecipeError(f"weights {list(weights)}: give one above 0 for each of {len(sources)} folders")
        self.sources = list(sources)
        self.weights = [weight / sum(weights) for weight in weights]
        self._drawn = [0] * len(sources)

    def next(self) -> Drawn:
        """The next document, of the source that is due first among those that are behind their share.

        This is the quota method of apportionment (Balinski and Young): it never strays a whole document.
        """
        total = sum(self._drawn) + 1
        shares = list(zip(self.weights, self._drawn, strict=True))
        behind = [n for n, (weight, drawn) in enumerate(shares) if drawn < weight * total]
        number = min(behind, key=lambda n: (self._drawn[n] + 1) / self.weights[n])
        self._drawn[number] += 1
        return self.sources[number].next()

    def state_dict(self) -> dict[str, Any]:
        """Two numbers a source, as JSON values."""
        return {"drawn": list(self._drawn), "passed": [source.passed for source in self.sources]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._drawn = [int(drawn) for drawn in state["drawn"]]
        for source, passed in zip(self.sources, state["passed"], strict=True):
            source.go_to(int(passed))
