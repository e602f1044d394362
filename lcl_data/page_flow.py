"""The article of a page in reading order: runs of text, and the pictures between them where a reader meets
them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lcl_data.page_content import Content
from lcl_data.page_pictures import TAGS
from lcl_data.page_text import LINE, PARAGRAPH, Prose
from lcl_data.page_tree import Tree
from lcl_data.page_words import BLOCKS, HEADINGS

_NO_DATA = frozenset(("table", "pre", "form", "ul", "ol", *TAGS, *HEADINGS))
_MAX_CELL = 300  # characters of a cell of data; more is the column of a layout
_GLYPHS = ("emoji", "smiley", "smilies", "latex", "tex", "math", "formula")


@dataclass(slots=True)
class Flow:
    """A walk over an article.

    Attributes:
        tree: the page.
        content: what of it is the article.
        merged: pictures of a `<noscript>` that stand for another one, and are therefore none of their own.
    """

    tree: Tree
    content: Content
    merged: frozenset[int]
    _prose: Prose = field(default_factory=Prose)
    _open: list[tuple[int, int]] = field(default_factory=list)  # (end, level) of blocks that are not closed
    _entries: dict[int, int] = field(default_factory=dict)  # so far, by number of the numbered list
    _code_to: int = 0

    def __iter__(self) -> Iterator[str | int]:
        """Texts and numbers of `<img>`s, in order."""
        node = self.content.start
        while node < self.content.end:
            while self._open and self._open[-1][0] <= node:
                self._prose.end(self._open.pop()[1])
            tag = self.tree.tags[node]
            if tag in TAGS and node not in self.content.skipped:
                if node not in self.merged:
                    yield from self._picture(node)
                node += 1
            else:
                node = self._visit(node, tag)
        if text := self._prose.take():
            yield text

    def _picture(self, node: int) -> Iterator[str | int]:
        if glyph := glyph_of(self.tree, node):
            self._prose.add(glyph)
        elif text := self._prose.take():
            yield text
        yield node

    def _visit(self, node: int, tag: str) -> int:
        """Add what a node holds; returns the node to go on with."""
        tree = self.tree
        if node in self.content.skipped:
            self._prose.end(LINE if tag in BLOCKS else 0)
            return tree.ends[node]
        if tag == "math":
            self._prose.add(formula(tree, node))
            return tree.ends[node]
        if tag == "table" and is_data(tree, node):
            self._rows(node)
            return tree.ends[node]
        if not tag:
            self._words(node)
        elif tag == "br":
            self._prose.add("\n", True) if node < self._code_to else self._prose.wrap()
        elif tag in BLOCKS:
            self._enter(node, tag)
        return node + 1

    def _words(self, node: int) -> None:
        above = self.tree.parents[node]
        if above < 0 or self.tree.tags[above] not in ("noscript", *TAGS):
            self._prose.add(self.tree.texts[node], node < self._code_to)

    def _enter(self, node: int, tag: str) -> None:
        above = self.tree.parents[node]
        in_list = tag in ("ul", "ol") and self.tree.tags[above] in ("li", "ul", "ol")
        is_line = in_list or tag in ("li", "dt", "dd") or (tag == "p" and self._is_alone(node, above))
        level = LINE if is_line else PARAGRAPH
        self._prose.end(level)
        self._open.append((self.tree.ends[node], level))
        if tag == "li":
            self._prose.mark(self._bullet(above))
        elif tag == "pre":
            self._code_to = self.tree.ends[node]

    def _is_alone(self, node: int, above: int) -> bool:
        """Whether a paragraph is all of an entry of a list."""
        tree = self.tree
        if tree.tags[above] not in ("li", "dd"):
            return False
        return (
            not any(
                tree.tags[i] == "p" and tree.parents[i] == above
                for i in range(tree.ends[node], tree.ends[above])
            )
            and "p" not in tree.tags[above + 1 : node]
        )

    def _bullet(self, above: int) -> str:
        if self.tree.tags[above] != "ol":
            return "- "
        first = self.tree.attributes[above].get("start") or ""
        number = self._entries.get(above, int(first) if first.isascii() and first[:9].isdigit() else 1)
        self._entries[above] = number + 1
        return f"{number}. "

    def _rows(self, table: int) -> None:
        """A table of data: a line for each row."""
        self._prose.end(PARAGRAPH)
        for node in range(table, self.tree.ends[table]):
            if self.tree.tags[node] in ("tr", "caption"):
                cells = [node] if self.tree.tags[node] == "caption" else _cells(self.tree, node)
                row = " | ".join(self._plain(cell) for cell in cells)
                if row.strip(" |"):
                    self._prose.add(row)
                    self._prose.end(LINE)
        self._prose.end(PARAGRAPH)

    def _plain(self, cell: int) -> str:
        """The text of a cell, in one line."""
        words = []
        node = cell
        while node < self.tree.ends[cell]:
            tag = self.tree.tags[node]
            if node in self.content.skipped or tag == "math":
                words.append(formula(self.tree, node) if tag == "math" else "")
                node = self.tree.ends[node]
                continue
            words.append(" " if tag in BLOCKS or tag == "br" else self.tree.texts[node])
            node += 1
        return " ".join("".join(words).split())


def glyph_of(tree: Tree, node: int) -> str | None:
    """The text that a picture of a sign or a formula stands for, if it is one."""
    attributes = tree.attributes[node]
    name, alt = attributes.get("class"), attributes.get("alt")
    if not name or not alt:
        return None
    words = name.lower().replace("_", "-").replace("-", " ").split()
    return alt if any(word in _GLYPHS for word in words) else None


def formula(tree: Tree, node: int) -> str:
    """The TeX of a `<math>`; its letters in a row where it brings none."""
    if alt := tree.attributes[node].get("alttext"):
        return alt
    inside = range(node, tree.ends[node])
    notes = [i for i in inside if tree.tags[i] == "annotation"]
    return tree.text(notes[0] if notes else node)


def is_data(tree: Tree, table: int) -> bool:
    """Whether a table holds short entries in rows, and not the columns of a layout."""
    inside = range(table + 1, tree.ends[table])
    if not _NO_DATA.isdisjoint(tree.tags[i] for i in inside):
        return False
    cells = [i for i in inside if tree.tags[i] in ("td", "th")]
    return len(cells) > 1 and all(
        sum(len(text) for text in tree.texts[i : tree.ends[i]]) <= _MAX_CELL for i in cells
    )


def _cells(tree: Tree, row: int) -> list[int]:
    return [i for i in range(row, tree.ends[row]) if tree.tags[i] in ("td", "th")]
