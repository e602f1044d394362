"""How full rows are, and how full they could be: the packer beside best-fit decreasing over the whole corpus.

    python benchmarks/fill.py SHARDS --slots 64 [--row-tokens 8192 --part-tokens 2048 --row-images 96]

Pieces are those of one epoch of the loader, in its order, of documents placed by their coins and cut where
they are longer than a row. `look-ahead N` is the packer as it trains, emptied at the end; `whole corpus` is
the same packer given all pieces at once, the largest first, which no stream can do. `no packing above` holds
for any order and any packer: the bound L2 of Martello and Toth (1990). For each size k, a piece that leaves
less than k takes a row for itself as far as those of k and more are concerned, any two above half a row take
two, and what the others of k and more need beyond the room beside these takes rows of its own. Microseconds
are of packing alone, on one core, without reading documents.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lcl_data.shards import Shards
from lcl_train.loader import Fitting, Loader
from lcl_train.pack import Packer, PackSettings, Piece

LOOKAHEADS = (128, 512, 2048)


def pieces(shards: Shards, slots: int, pack: PackSettings, min_images: int) -> list[Piece]:
    """The pieces of an epoch, in the order in which the packer is given them."""
    fitting = Fitting(rows=1, pack=pack, slots=slots, image_size=32, seed=0, min_images=min_images)
    return list(Loader(shards, fitting, 0).pieces())


def fill(waiting: Sequence[Piece], pack: PackSettings) -> tuple[float, float]:
    """Share of positions that are no padding, and CPU seconds of a row."""
    packer, since = Packer(pack), time.process_time()
    for piece in waiting:
        packer.push(piece)
        while packer.is_full:
            packer.pop()
    while len(packer):
        packer.pop()
    return packer.stats.fill, (time.process_time() - since) / packer.stats.rows


def least_rows(sizes: Sequence[int], row: int) -> int:
    """Rows that any packing of pieces of these sizes needs at least."""
    n = np.sort(np.array(sizes))
    most = -(-int(n.sum()) // row)
    for k in np.unique(n[n <= row // 2]):
        alone, large = n[n > row - k], n[(n <= row - k) & (n > row // 2)]
        small = n[(n <= row // 2) & (n >= k)]
        over = int(small.sum()) - (len(large) * row - int(large.sum()))
        most = max(most, len(alone) + len(large) + max(0, -(-over // row)))
    return max(most, int(np.count_nonzero(n > row // 2)))


def measure(shards: Path, slots: int, pack: PackSettings, min_images: int) -> dict[str, Any]:
    """All of it for some shards."""
    waiting = pieces(Shards(shards), slots, pack, min_images)
    sizes = [piece.tokens for piece in waiting]
    found: dict[str, Any] = {
        "pieces": len(sizes),
        "a row": float(np.mean(sizes)) / pack.row_tokens,
        "above half a row": float(np.mean(np.array(sizes) > pack.row_tokens / 2)),
    }
    for ahead in LOOKAHEADS:
        share, seconds = fill(waiting, pack.model_copy(update={"lookahead": ahead}))
        found |= {f"look-ahead {ahead}": share, f"us a row, {ahead}": seconds * 1e6}
    largest_first = sorted(waiting, key=lambda piece: -piece.tokens)
    found["whole corpus"], _ = fill(largest_first, pack.model_copy(update={"lookahead": len(sizes) + 1}))
    found["no packing above"] = sum(sizes) / pack.row_tokens / least_rows(sizes, pack.row_tokens)
    return found


def main() -> None:
    """Measure the shards that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--slots", type=int, required=True, help="visual tokens of a picture")
    parser.add_argument("--row-tokens", type=int, default=2048)
    parser.add_argument("--part-tokens", type=int)
    parser.add_argument("--row-images", type=int, default=24)
    parser.add_argument("--min-images", type=int, default=1)
    parser.add_argument("--slack", type=float, default=0.2)
    given = parser.parse_args()
    names = ("row_tokens", "part_tokens", "row_images", "slack")
    pack = PackSettings(**{name: getattr(given, name) for name in names})
    for shards in given.shards:
        found = measure(shards, given.slots, pack, given.min_images)
        json.dump(
            {"shards": shards.name, **{name: round(value, 4) for name, value in found.items()}}, sys.stdout
        )
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
