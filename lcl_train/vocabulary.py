"""How many bytes of text each token stands for: what turns a loss per token into bits per byte."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas.errors import ShardError

TOKENIZER = "tokenizer.json"
_END_OF_WORD = "</w>"  # of CLIP's tokens; it is decoded to a space


def token_bytes(folder: Path, vocab_size: int) -> Tensor | None:
    """Bytes of each token, from the tokenizer beside the shards.

    Args:
        folder: of training shards.
        vocab_size: tokens, special ones included.

    Returns:
        int64 [vocab_size], 0 for special tokens; None: no tokenizer.json, or one that is not byte-level,
        whose tokens do not say of how many bytes they are.

    Raises:
        ShardError: the file is damaged, or of another vocabulary.
    """
    file = folder / TOKENIZER
    try:
        return _bytes_of(json.loads(file.read_text("utf-8")), vocab_size) if file.exists() else None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ShardError(
            f"{file}: not the tokenizer of these shards ({type(error).__name__}: {error}); "
            "run `lcl shard` again"
        ) from error


def _bytes_of(content: dict[str, Any], vocab_size: int) -> Tensor | None:
    if not _is_byte_level(content.get("decoder") or {}):
        return None
    nbytes = torch.zeros(vocab_size, dtype=torch.int64)
    for word, number in content["model"]["vocab"].items():
        body = word.removesuffix(_END_OF_WORD)
        nbytes[number] = len(body) + (body != word)  # a byte is one character of the byte-level alphabet
    for added in content.get("added_tokens", []):
        nbytes[added["id"]] = 0 if added["special"] else len(added["content"].encode())
    return nbytes


def _is_byte_level(decoder: dict[str, object]) -> bool:
    parts = decoder.get("decoders", [decoder])
    return isinstance(parts, list) and any(part.get("type") == "ByteLevel" for part in parts)
