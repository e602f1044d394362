"""The text of a page as a reader sees it: paragraphs, lines of lists and tables, code as it stands.

Paragraphs are joined by a blank line, as OBELICS joins them; entries of lists and rows of tables by a line
break; cells by ` | `.
"""

from dataclasses import dataclass, field

LINE, PARAGRAPH = 1, 2
_BREAKS = ("", "\n", "\n\n")
_INVISIBLE = dict.fromkeys((0xAD, 0x200B, 0xFEFF, 0x2060))  # soft hyphen, zero-width space, marks of order


@dataclass(slots=True)
class Prose:
    """Text as it grows; white space is set as a browser sets it."""

    _parts: list[str] = field(default_factory=list)
    _break: int = 0
    _space: bool = False
    _mark: str = ""

    def add(self, text: str, is_code: bool = False) -> None:
        """Running text, white space collapsed; code as it stands."""
        if not text.isascii():
            text = text.translate(_INVISIBLE)
        if is_code:
            self._put(text.replace("\r\n", "\n").replace("\r", "\n"))
            return
        words = text.split()
        if not words:
            self._space = self._space or bool(text)
            return
        self._space = self._space or text[0].isspace()
        self._put(" ".join(words))
        self._space = text[-1].isspace()

    def end(self, level: int) -> None:
        """A line or a paragraph ends here; at level 0 nothing does."""
        self._break = max(self._break, level)

    def wrap(self) -> None:
        """A line ends here; two such ends in a row are the end of a paragraph."""
        self.end(PARAGRAPH if self._break else LINE)

    def mark(self, mark: str) -> None:
        """What the next text begins with, such as the dash of a list; nothing if no text follows."""
        self._mark = mark

    def take(self) -> str:
        """The text so far, which begins anew."""
        text = "".join(self._parts).rstrip().lstrip("\n")
        self._parts.clear()
        self._break, self._space, self._mark = 0, False, ""
        return text

    def _put(self, text: str) -> None:
        if self._break and self._parts:
            self._parts.append(_BREAKS[self._break])
        elif self._space and self._parts and not self._mark:
            self._parts.append(" ")
        self._parts.append(self._mark + text)
        self._break, self._space, self._mark = 0, False, ""
