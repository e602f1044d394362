"""A page of HTML as flat lists in document order: bytes to text, text to nodes, whatever strangers wrote.

Every later step walks the lists with a loop, so that a page nested a million deep costs no more than
another. selectolax parses (2,000 pages/s with the walk; lxml 890, resiliparse 205) and resiliparse guesses
charsets.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from schemas.errors import SourceError

Attributes = dict[str, str | None]

# Nothing in these is read by a person, or it is no text.
_UNREAD = [
    "script", "style", "template", "svg", "iframe", "object", "embed", "video", "audio", "canvas",
    "select", "textarea", "datalist", "input", "map", "applet", "frameset", "noembed",
]  # fmt: skip
# Tags that need no end, or whose end is implied: they do not nest without bound.
_SHALLOW = frozenset(
    b"area base br col embed hr img input link meta param source track wbr p li td tr th dt dd option"
    b" tbody thead tfoot html head body".split()
)
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_META_CHARSET = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{1,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([a-zA-Z0-9_:.-]{1,40})")
_XHTML = re.compile(r"<\?xml|<!DOCTYPE[^>]{0,200}XHTML|xmlns=.http://www\.w3\.org/1999/xhtml", re.IGNORECASE)
_CLOSED_AT_ONCE = re.compile(
    r"<(a|div|em|i|b|iframe|li|p|script|span|strong|style|td|textarea|th|title)\b((?:\s[^<>]*)?)/>",
    re.IGNORECASE,
)
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HEAD_NBYTES = 4096
_MANY_TAGS = 20_000
_MAX_DEPTH = 5_000  # a parser takes time in the square of the depth: 0.1 s for 10,000, 3.5 s for 50,000
_LONG_TAG = 1 << 16
_MAX_ATTRIBUTES = 5_000  # likewise


@dataclass(slots=True)
class Tree:
    """The nodes of a page; a node is its number, counted from 0 in document order.

    Attributes:
        tags: of an element in lower case; "" for a text.
        attributes: of an element; empty for a text.
        parents: number of the parent; -1 at the root.
        ends: one past the last node below a node: its subtree is `range(node, ends[node])`.
        texts: of a text node as written; "" for an element.
    """

    tags: list[str] = field(default_factory=list)
    attributes: list[Attributes] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def find(self, tag: str) -> int | None:
        """The first element with a tag."""
        return self.tags.index(tag) if tag in self.tags else None

    def text(self, node: int) -> str:
        """All text below a node, white space collapsed."""
        return " ".join("".join(self.texts[node : self.ends[node]]).split())


def parse(html: str) -> Tree:
    """The nodes of a page, without what nobody reads: scripts, styles, forms' controls, comments.

    Raises:
        SourceError: `too_deep`, nested so that no parser takes it in reasonable time.
    """
    from selectolax.lexbor import LexborHTMLParser

    _refuse_endless(html.encode("utf-8", "replace"))
    if _XHTML.search(html, 0, _HEAD_NBYTES):
        html = _CLOSED_AT_ONCE.sub(r"<\1\2></\1>", html)
    parser = LexborHTMLParser(html)
    parser.strip_tags(_UNREAD)
    tree = Tree()
    numbers: dict[int, int] = {}
    if parser.root is None:
        return tree
    for node in parser.root.traverse(include_text=True):
        parent = node.parent
        above = numbers.get(parent.mem_id, -1) if parent is not None else -1
        if node.is_element_node:
            numbers[node.mem_id] = len(tree.tags)
            tree.tags.append(node.tag or "")
            tree.attributes.append(node.attributes)
            tree.texts.append("")
        elif node.is_text_node:
            tree.tags.append("")
            tree.attributes.append({})
            tree.texts.append(node.text_content or "")
        else:
            continue
        tree.parents.append(above)
    _close(tree)
    return tree


def decode(content: bytes, charset: str | None) -> tuple[str, str]:
    """(text, encoding) of a page: by its byte order mark, what the server said, what the page says, a guess.

    What a label does not fit is decoded by the next one; bytes that fit none become U+FFFD.
    """
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return content[len(bom) :].decode(encoding, "replace"), encoding
    for label in _labels(content, charset):
        if text := _decoded(content, label):
            return text, label
    guess = _guess(content)
    return _decoded(content, guess) or content.decode("utf-8", "replace"), guess


def _labels(content: bytes, charset: str | None) -> list[str]:
    from resiliparse.parse.encoding import map_encoding_to_html5

    head = content[:_HEAD_NBYTES]
    found = [match[1].decode() for p in (_META_CHARSET, _XML_ENCODING) if (match := p.search(head))]
    told = [label for label in (charset, *found) if label]
    return [
        label
        for name in told
        # A page whose ASCII could be read is not UTF-16, whatever it says.
        if (label := map_encoding_to_html5(name, False)) and not (label.startswith("utf-16") and found)
    ]


def _decoded(content: bytes, label: str) -> str | None:
    """Text of bytes that fit a label but for one in a thousand: a page cut within a character is no other."""
    try:
        text = content.decode(label, "replace")
    except LookupError:
        return None
    return text if text.count("\ufffd") <= len(text) // 1000 + 1 else None


def _guess(content: bytes) -> str:
    from resiliparse.parse.encoding import detect_encoding

    try:
        content.decode()
        return "utf-8"
    except UnicodeDecodeError:
        return str(detect_encoding(content) or "utf-8")


def _refuse_endless(content: bytes) -> None:
    """Pages made to keep a parser busy: nested beyond reason, or with one tag of endless attributes."""
    chunks = content.split(b">") if len(content) > _LONG_TAG else []
    for chunk in chunks:
        if len(chunk) > _LONG_TAG and len(chunk[chunk.rfind(b"<") :].split()) > _MAX_ATTRIBUTES:
            raise SourceError("too_deep", f"a tag with more than {_MAX_ATTRIBUTES} attributes")
    if content.count(b"<") > _MANY_TAGS and _is_deep(content):
        raise SourceError("too_deep", f"elements nested deeper than {_MAX_DEPTH}")


def _is_deep(content: bytes) -> bool:
    open_: Counter[bytes] = Counter()
    for slash, name in _TAG.findall(content):
        tag = name.lower()
        if tag in _SHALLOW or (slash and not open_[tag]):
            continue
        open_[tag] += -1 if slash else 1
        if not slash and open_[tag] > _MAX_DEPTH // 10 and open_.total() > _MAX_DEPTH:
            return True
    return False


def _close(tree: Tree) -> None:
    """Fill in the ends: every node's subtree reaches to that of its last descendant."""
    tree.ends = [node + 1 for node in range(len(tree.tags))]
    for node in range(len(tree.tags) - 1, 0, -1):
        above = tree.parents[node]
        if above >= 0 and tree.ends[node] > tree.ends[above]:
            tree.ends[above] = tree.ends[node]
