"""The special token ids of a set of shards, as written in their metadata (`lcl.tokens`).

Shards own the vocabulary; the trainer takes every id from here and assumes none.
"""

import json
from dataclasses import dataclass, fields

from schemas.errors import ShardError


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids with a meaning of their own.

    Attributes:
        sot: start of text, the first token of every document or part of one.
        eot: end of text, the last token of a document.
        image: in shards the place of one image; in a batch every visual slot.
        boi: `<BoI>`, before the visual slots.
        eoi: `<EoI>`, after the visual slots.
        pad: fills rows; never a target.
        vocab_size: number of ids, these included.
    """

    sot: int
    eot: int
    image: int
    boi: int
    eoi: int
    pad: int
    vocab_size: int

    @classmethod
    def parse(cls, metadata: str | bytes) -> "SpecialTokens":
        """Read the JSON under a shard's `lcl.tokens` key.

        Raises:
            ShardError: if it is no JSON object or lacks an id.
        """
        try:
            ids = json.loads(metadata)
            return cls(**{field.name: int(ids[field.name]) for field in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise ShardError(
                f"lcl.tokens {metadata!r}: {error!r}; write the shards again with lcl shard"
            ) from error
