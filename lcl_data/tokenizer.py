"""Text to token ids: CLIP's BPE, any tokenizer.json, or one trained here; plus the six ids that no text can
give.

Special tokens are never parsed in data: the encoder is built without them, so "<start_of_img>" or
"<|endoftext|>" on a page stays text. The price is a second copy of the vocabulary beside the published one.
"""

import gzip
import html
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the engine's processes are the parallelism
os.environ.setdefault("RAYON_NUM_THREADS", "1")

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lcl_data import files
from lcl_data.known_words import KnownWords, parts_at_spaces
from lcl_data.shards import SpecialTokens
from schemas.errors import RecipeError

CLIP = "clip"
# Our names of sot, eot, image, boi, eoi, pad: those of the reference implementation, and a padding token of
# its own (the reference pads with id 0, which is "!").
SPECIALS = ("<start_of_text>", "<end_of_text>", "<img_placehold>", "<start_of_img>", "<end_of_img>", "<pad>")
_ROLES = ("sot", "eot", "image", "boi", "eoi", "pad")
_CLIP_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_CLIP_MERGES = 49152 - 256 - 2
# Case-insensitive contractions, then runs of letters, single digits, runs of the rest (CLIP's own pattern).
_CLIP_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A vocabulary ready to encode.

    Attributes:
        special: the ids of the special tokens.
        published: the content of tokenizer.json, special tokens included.
        clean: what happens to a text before it is encoded.
        joint: put before every text item of a document but the first; "" where white space means nothing.
    """

    special: SpecialTokens
    published: str
    clean: Callable[[str], str]
    joint: str
    _encoder: tokenizers.Tokenizer
    _by_words: KnownWords | None  # where the tokenizer encodes words independently

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of cleaned texts; no text gives a special id."""
        if self._by_words:
            return self._by_words.encode(texts)
        return [encoding.ids for encoding in self._encoder.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_starts(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of one cleaned text and the character at which each begins (slower: for cutting it)."""
        encoding = self._encoder.encode(text, add_special_tokens=False)
        return encoding.ids, [start for start, _ in encoding.offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special ids are left out."""
        special = {getattr(self.special, role) for role in _ROLES}
        plain = [int(token) for token in ids if int(token) not in special]
        return str(self._encoder.decode(plain, skip_special_tokens=False))


@lru_cache(maxsize=4)
def load(name: str) -> Tokenizer:
    """The tokenizer of a recipe.

    Args:
        name: `clip`, or the path of a tokenizer.json.

    Raises:
        RecipeError: the file is missing or no tokenizer, or CLIP's vocabulary is not installed.
    """
    if name == CLIP:
        return _assemble(_clip_json(), clean_like_clip, joint="")
    try:
        content = files.place(name).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise RecipeError(f"tokenizer {name}: no such file; give `{CLIP}` or a tokenizer.json") from None
    try:
        return _assemble(json.loads(content), _unchanged, joint=" ")
    except RecipeError:
        raise
    except Exception as error:  # `tokenizers` knows no narrower one
        raise RecipeError(f"tokenizer {name}: not a tokenizer.json ({error})") from error


def train(texts: Iterable[str], vocab_size: int, out: Path) -> None:
    """Train a byte-level BPE and write it as tokenizer.json; equal texts give equal bytes.

    Args:
        texts: of the documents, as they come.
        vocab_size: entries learnt, the 256 bytes among them and the six special tokens not.
        out: the file to write.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    files.make(out.parent)
    published = _assemble(json.loads(tokenizer.to_str()), _unchanged, joint=" ").published
    files.write(out, published.encode())


def clean_like_clip(text: str) -> str:
    """Mojibake mended, HTML unescaped twice, white space collapsed, lower case: as open_clip does."""
    # What is plain ASCII without entities or control characters is whole already: four times as fast.
    is_plain = text.isascii() and "&" not in text and text.replace("\n", " ").isprintable()
    return " ".join((text if is_plain else _mended(text)).split()).lower()


def _mended(text: str) -> str:
    import ftfy  # not every corpus has need of it

    return html.unescape(html.unescape(ftfy.fix_text(text)))


def _unchanged(text: str) -> str:
    return text


def _clip_json() -> dict[str, Any]:
    symbols = _byte_symbols()
    merges = [(left, right) for left, right in map(str.split, _clip_lines())]
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(pair) for pair in merges)]
    model = models.BPE(
        vocab={word: number for number, word in enumerate(words)}, merges=merges, end_of_word_suffix="</w>"
    )
    tokenizer = tokenizers.Tokenizer(model)
    # The lower case is for other readers of tokenizer.json: our own cleaning has been there already.
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_CLIP_PATTERN), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


def _clip_lines() -> list[str]:
    spec = find_spec("open_clip")  # finds the package without importing it, and torch with it
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(
            "tokenizer clip: its vocabulary comes with open_clip_torch, which is not installed; "
            "pip install 'lcl[train]', name a tokenizer.json, or add a section `tokenizer` to the recipe"
        )
    path = Path(spec.submodule_search_locations[0]) / _CLIP_VOCABULARY
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    return lines[1 : _CLIP_MERGES + 1]  # the first line is a version


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE in CLIP's order: printable bytes first, then the rest."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(others)]


def _assemble(content: dict[str, Any], clean: Callable[[str], str], joint: str) -> Tokenizer:
    """Give the six special tokens their ids and take every special token out of the encoder."""
    added = list(content["added_tokens"])
    known = {token["content"]: token["id"] for token in added}
    size = max([*_vocabulary(content["model"]).values(), *known.values()]) + 1
    for name in SPECIALS:
        if name not in known:
            known[name] = size
            added.append(_special(size, name))
            size += 1
    published = json.dumps({**content, "added_tokens": added}, ensure_ascii=False, separators=(",", ":"))
    _refuse_holes(published, known)
    special = SpecialTokens(
        **{role: known[n] for role, n in zip(_ROLES, SPECIALS, strict=True)}, vocab_size=size
    )
    bare = _bare(content, added)
    encoder = tokenizers.Tokenizer.from_str(json.dumps(bare))
    by_words = KnownWords(encoder) if parts_at_spaces(bare, _CLIP_PATTERN) else None
    return Tokenizer(special, published, clean, joint, encoder, by_words)


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    words = model["vocab"]
    return words if isinstance(words, dict) else {word: number for number, (word, _) in enumerate(words)}


def _special(number: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, **flags, "special": True}


def _refuse_holes(published: str, known: dict[str, int]) -> None:
    loaded = tokenizers.Tokenizer.from_str(published)
    for name in SPECIALS:
        if loaded.token_to_id(name) != known[name]:
            raise RecipeError(
                f"tokenizer: '{name}' cannot get id {known[name]}: the ids have holes; renumber"
            )


def _bare(content: dict[str, Any], added: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of a tokenizer that cannot give a special id: neither by its name nor by looking it up."""
    model = content["model"]
    hidden = {token["content"] for token in added if token["special"]} - {model.get("unk_token")}
    words = model["vocab"]
    if isinstance(words, dict):
        kept: Any = {word: number for word, number in words.items() if word not in hidden}
    else:  # Unigram: an id is a place in the list, so the name is made unreachable instead
        unknown = model.get("unk_id")
        kept = [[f"\0{w}", s] if w in hidden and k != unknown else [w, s] for k, (w, s) in enumerate(words)]
    plain = [token for token in added if not token["special"]]
    bare = {**content, "added_tokens": plain, "model": {**model, "vocab": kept}}
    for name in ("post_processor", "truncation", "padding"):
        bare[name] = None
    return bare
