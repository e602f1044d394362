"""How a `NearRule` runs: two exchanges and a settlement, each resumable.

1. *pairs*: what shares a key is a candidate pair; no text and no id yet, only places.
2. *verify*: both sides of a pair bring their facts to one bucket; where they are similar, they are an edge.
3. *settle*: edges link places to sets, over the whole corpus, by chains or each directly to the one that
   stays, as the rule says; it decides over the sets.

Memory of the exchanges is that of a bucket (`lcl_data.exchange`); a key that a million places share costs two
million pairs. The settlement holds the edges: about 0.3 KB for each pair of copies, whatever the corpus.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lcl_data import files
from lcl_data.dedupe import NearRule, Rule
from lcl_data.engine import Engine
from lcl_data.exchange import answers_of, buckets_for, exchange
from lcl_data.frames import Frames, no_documents, together
from lcl_data.stage import Unit
from schemas.decisions import DECIDED
from schemas.documents import ROW_GROUP_ROWS

Read = Callable[[Unit], Iterator[Frames]]

_PLACE = {"document": pl.UInt64, "item": pl.Int32}
_OTHER = {"other": pl.UInt64, "other_item": pl.Int32}
_PAIR = [*_PLACE, *_OTHER]
_HUB = ["hub", "hub_item"]
# The facts of a place with many candidates go to as many buckets: a picture or page copied a million times
# must not make one bucket of a million facts.
_SLOTS = 64
_ROW_BYTES = 100  # of the narrow rows for which `buckets_for` counts


@dataclass(frozen=True, slots=True)
class Question:
    """What a rule is asked about.

    Attributes:
        units: the shards, in order.
        read: the documents of a shard, without what earlier rules dropped; picklable.
        rows: about how many documents, images or texts are compared.
        folder: `folder(step)` is the scratch folder of a step.
    """

    units: Sequence[Unit]
    read: Read
    rows: int
    folder: Callable[[str], Path]


def neighbours(rule: NearRule, question: Question, engine: Engine) -> list[Path]:
    """Find what is alike.

    Returns:
        One Parquet file of decisions, sorted by document (none if there are no units).

    Raises:
        ShardError: a unit is torn; what is done stays done.
    """
    ask = partial(exchange, units=question.units, engine=engine)
    keys = partial(keys_of, rule, question.read)
    buckets = buckets_for(question.rows * rule.spread)
    pairs = ask(question.folder("pairs"), keys=keys, reduce=partial(_candidates, rule), buckets=buckets)
    if not pairs:
        return []
    facts = partial(_facts, rule, question.read, pairs)
    rows = sum(pq.read_metadata(path).num_rows for path in pairs)
    buckets = buckets_for(rows * -(-rule.facts_bytes // _ROW_BYTES))
    edges = ask(question.folder("verify"), keys=facts, reduce=partial(_verify, rule), buckets=buckets)
    settled = question.folder("settle") / "00000.parquet"
    settled.parent.mkdir(parents=True, exist_ok=True)
    todo = [] if settled.exists() else [settled]
    deque(engine.run(partial(_settle, rule, edges), todo), maxlen=0)
    return [settled]


def keys_of(rule: Rule, read: Read, unit: Unit) -> pl.DataFrame:
    """What a rule compares in a shard."""
    return pl.concat([rule.keys(no_documents()), *(rule.keys(frames) for frames in read(unit))])


def _candidates(rule: NearRule, rows: pl.DataFrame) -> pl.DataFrame:
    """The rule's pairs, both ways round: a shard finds all pairs of its places by their first column."""
    one_way = rule.candidates(rows)
    other_way = one_way.select(pl.col(a).alias(b) for a, b in zip([*_OTHER, *_PLACE], _PAIR, strict=True))
    return pl.concat([one_way.select(_PAIR), other_way]).unique()


def _renamed() -> list[tuple[str, str]]:
    return list(zip(_PLACE, _OTHER, strict=True))


def _facts(rule: NearRule, read: Read, answers: list[Path], unit: Unit) -> pl.DataFrame:
    """The facts of a shard's candidates, once for each bucket in which one of their pairs is verified."""
    sought = _hubs(answers_of(answers, unit.number).unique())
    parts = [_brought(rule, no_documents(), sought.head(0))]
    if not sought.is_empty():
        parts += [_brought(rule, frames, sought) for frames in _sought(rule, read(unit), sought)]
    return pl.concat(parts)


def _sought(rule: NearRule, read: Iterator[Frames], sought: pl.DataFrame) -> Iterator[Frames]:
    """The documents that hold a candidate, so many together as are read at a time; where pictures are
    compared, with no other pictures.
    """
    documents, places = sought.select("document").unique(), sought.select([*_PLACE]).unique()
    held: list[Frames] = []
    for frames in read:
        left = frames.only_documents(documents)
        if rule.compares == "images":
            items = left.items.join(places, on=[*_PLACE], how="semi", maintain_order="left")
            left = replace(left, items=items)
        held.append(left)
        if sum(each.documents.height for each in held) >= ROW_GROUP_ROWS:
            yield together(held)
            held = []
    if held:
        yield together(held)


def _hubs(pairs: pl.DataFrame) -> pl.DataFrame:
    """Where each place must bring its facts: to the hub (the earlier place) of each pair, in the slot of the
    later one.
    """
    place, item, other, other_item = (pl.col(name) for name in _PAIR)
    is_hub = (place < other) | ((place == other) & (item < other_item))
    hubs = [
        pl.when(is_hub).then(a).otherwise(b).alias(c) for a, b, c in zip(_PLACE, _OTHER, _HUB, strict=True)
    ]
    slot = _mixed(
        pl.when(is_hub).then(other).otherwise(place), pl.when(is_hub).then(other_item).otherwise(item)
    )
    rows = pairs.select(*hubs, *_PLACE, slot=slot % _SLOTS)
    return rows.select(
        (_mixed(*map(pl.col, _HUB)) * _SLOTS + pl.col("slot")).alias("key"), *_HUB, *_PLACE
    ).unique()


def _mixed(document: pl.Expr, item: pl.Expr) -> pl.Expr:
    """32 well-mixed bits of a place."""
    item = (item.fill_null(-1) + 1).cast(pl.UInt64)
    odd = [pl.lit(constant, pl.UInt64) for constant in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)]
    return (document * odd[0] + item * odd[1]) * odd[0] // pl.lit(1 << 32, pl.UInt64)


def _brought(rule: NearRule, frames: Frames, sought: pl.DataFrame) -> pl.DataFrame:
    return sought.join(rule.facts(frames), on=[*_PLACE], how="inner", nulls_equal=True)


def _verify(rule: NearRule, rows: pl.DataFrame) -> pl.DataFrame:
    """The pairs of a bucket that are as similar as the rule asks."""
    is_hub = (pl.col("document") == pl.col("hub")) & pl.col("item").eq_missing(pl.col("hub_item"))
    shared = ["key", *_HUB]
    own = [name for name in rows.columns if name not in (*shared, *_PLACE)]
    renamed = dict(_renamed()) | {name: f"other_{name}" for name in own}
    hubs = rows.filter(is_hub).rename(renamed)
    pairs = rows.filter(~is_hub).join(hubs, on=shared, nulls_equal=True)
    similarity = rule.similarity(pairs).cast(pl.Float32).alias("similarity")
    found = pairs.select(*_PLACE, "id", *_OTHER, "other_id").with_columns(similarity)
    return found.filter(pl.col("similarity") >= pl.lit(rule.least, pl.Float32))


def _settle(rule: NearRule, edges: Sequence[Path], path: Path) -> None:
    """Write the rule's decisions over all sets."""
    decided = rule.decide(_sets(pl.concat([pl.read_parquet(each) for each in edges]), rule.chains))
    decided.select(DECIDED).sort("document", "item").write_parquet(
        files.temporary(path), compression="zstd", row_group_size=100_000, statistics=True
    )
    files.publish(path)


def _sets(edges: pl.DataFrame, chains: bool) -> pl.DataFrame:
    """What `NearRule.decide` is asked about."""
    ends = [edges.select(*_PLACE, "id", "similarity")]
    ends.append(
        edges.select(
            *(pl.col(b).alias(a) for a, b in _renamed()), pl.col("other_id").alias("id"), "similarity"
        )
    )
    members = pl.concat(ends).group_by(*_PLACE, "id").agg(pl.col("similarity").max()).sort(*_PLACE)
    numbers = members.select(*_PLACE, pl.int_range(pl.len()).alias("number"))
    first = edges.join(numbers, on=[*_PLACE], nulls_equal=True, maintain_order="left")["number"]
    others = numbers.rename(dict(_renamed()))
    second = edges.join(others, on=[*_OTHER], nulls_equal=True, maintain_order="left")["number"]
    linked = first.to_numpy(), second.to_numpy()
    if chains:
        lowest = components(*linked, members.height)
    else:
        equal = (edges["similarity"] == 1).to_numpy()
        same = components(linked[0][equal], linked[1][equal], members.height)
        lowest = leaders(same[linked[0]], same[linked[1]], members.height)[same]
    similarity = members["similarity"].to_numpy().copy()
    for one, other in (linked, linked[::-1]):
        is_direct = lowest[one] == other  # was compared with what stays for it
        similarity[one[is_direct]] = edges["similarity"].to_numpy()[is_direct]
    members = members.with_columns(similarity=similarity)
    kept = members[lowest]
    places = kept.select(document="document", item="item", id="id").rename(lambda name: _KEPT[name])
    return pl.concat([members, places], how="horizontal")


_KEPT = {"document": "kept", "item": "kept_item", "id": "kept_id"}


def leaders(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The lowest number linked to each of `count` numbers that stays; the number itself where it stays: it is
    linked to none lower that does.
    """
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((low, high))
    kept = list(range(count))
    for one, other in zip(low[order].tolist(), high[order].tolist(), strict=True):
        if kept[one] == one and kept[other] == other:
            kept[other] = one
    return np.array(kept, np.int64)


def components(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The lowest number in the set of each of `count` numbers, where first[i] and second[i] are linked.

    Every round halves the depth of what is linked: tens of rounds for any number of edges.
    """
    lowest = np.arange(count)
    while True:
        linked = lowest.copy()
        low = np.minimum(lowest[first], lowest[second])
        np.minimum.at(linked, lowest[first], low)
        np.minimum.at(linked, lowest[second], low)
        while not np.array_equal(jumped := linked[linked], linked):
            linked = jumped
        if np.array_equal(linked, lowest):
            return lowest
        lowest = linked
