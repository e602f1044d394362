"""Which part of a page is its article: what a reader came for, without what stands on every page of the site.

Rules of three kinds, none of which knows any site. An element's name, role or class says that it is
navigation, advertisement, comments (the words that OBELICS, Readability and Resiliparse look for, and more);
a name is not believed of what holds most of the page. The smallest element that holds nearly all
paragraphs is the article. Within it, blocks that are mostly links are lists of links.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from lcl_data.page_measures import PARAGRAPH, Measures, characters_of, measure
from lcl_data.page_pictures import TAGS
from lcl_data.page_tree import Attributes, Tree
from lcl_data.page_words import (
    APART_PAIRS,
    APART_ROLES,
    APART_TAGS,
    APART_WORDS,
    BLOCKS,
    CONTAINERS,
    HEADINGS,
    LAYOUT_WORDS,
    NEVER_APART,
    NOT_LISTS,
    TITLED,
)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MAX_ID_WORDS = 2
_MOST = 0.4  # an element that holds this share of the page's text is no sidebar, whatever it is called
_NEARLY_ALL = 0.85  # of the paragraphs, that the article holds
_MANY_LINKS = 0.6  # share of a block's text in links that makes it a list of links
_MENU = 200  # characters of links that make a cell of a table a menu
_CAPTION = 25  # characters of a link that may stand with one picture: `enlarge`
_AN_ARTICLE = 0.5  # of the paragraphs, that an <article> or <main> must hold to be believed


@dataclass(frozen=True, slots=True)
class Content:
    """What of a page is content.

    Attributes:
        start: first node of the article.
        end: one past its last node.
        skipped: roots of subtrees within it that are none of it.
    """

    start: int
    end: int
    skipped: frozenset[int]


def content_of(tree: Tree) -> Content:
    """The article of a page."""
    body = tree.find("body")
    if body is None:
        return Content(0, 0, frozenset())
    hidden = {i for i, a in enumerate(tree.attributes) if a and _is_hidden(tree.tags[i], a)}
    characters = characters_of(tree)
    whole = measure(tree, characters, hidden)
    most = whole.text[body] * _MOST
    apart = {
        i
        for i in range(body, tree.ends[body])
        if tree.tags[i] == "nav" or (tree.tags[i] and whole.text[i] <= most and _is_apart(tree, i, whole))
    }
    skipped = set(_topmost(tree, apart | hidden))
    rest = measure(tree, characters, skipped)
    start, end = _article(tree, rest, body, skipped)
    lists = _lists_of_links(tree, rest, start, end, skipped)
    skipped |= lists
    skipped |= _orphans(tree, start, end, skipped, lists)
    return Content(start, end, frozenset(skipped))


def _topmost(tree: Tree, nodes: set[int]) -> list[int]:
    """Nodes of which none is below another."""
    found = []
    end = -1
    for node in sorted(nodes):
        if node >= end:
            found.append(node)
            end = tree.ends[node]
    return found


def _is_hidden(tag: str, attributes: Attributes) -> bool:
    if tag in TAGS:  # a picture may be hidden until a script has loaded it, or be hidden from ears only
        return False
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    style = attributes.get("style")
    return bool(style and _HIDDEN.search(style))


def _is_apart(tree: Tree, node: int, whole: Measures) -> bool:
    """Whether an element says of itself that it is no part of the article."""
    tag, attributes = tree.tags[node], tree.attributes[node]
    if tag in NEVER_APART:
        return False
    if (tag == "aside" or attributes.get("class") == "sidebar") and _is_box(tree, node, whole):
        return False
    if tag in APART_TAGS or (attributes.get("role") or "").lower() in APART_ROLES:
        return True
    if tag == "header":
        return not _within(tree, node, ("article", "main", "section"))
    if tag == "form":
        return True
    return _says_apart(attributes.get("class") or "") or (
        tag not in TITLED and _says_apart(attributes.get("id") or "", _MAX_ID_WORDS)
    )


@lru_cache(maxsize=65536)
def _says_apart(name: str, max_words: int = 100) -> bool:
    """Whether a class or id says so; an id of many words is made of a heading (`how-to-use-the-menu`)."""
    if not name or len(name) > 1000 or "sect" in name:
        return False
    for part in name.split():
        words = [word.lower() for word in _WORD.findall(part)]
        if len(words) > max_words:
            continue
        if any(f"{a}-{b}" in APART_PAIRS for a, b in pairwise(words)):
            return True
        if not APART_WORDS.isdisjoint(words) and not _is_layout(words):
            return True
    return False


def _is_layout(words: list[str]) -> bool:
    """`has-sidebar`, `no-ads`, `content-sidebar-wrap`: the name of what stands beside, on the whole."""
    return not LAYOUT_WORDS.isdisjoint(words)


def _within(tree: Tree, node: int, tags: tuple[str, ...]) -> bool:
    above = tree.parents[node]
    while above >= 0:
        if tree.tags[above] in tags:
            return True
        above = tree.parents[above]
    return False


def _is_box(tree: Tree, node: int, whole: Measures) -> bool:
    """Whether it is a box in the text, as books have them: prose, with paragraphs of the text beside it."""
    if whole.link[node] > 0.3 * whole.text[node]:
        return False
    above = tree.parents[node]
    beside = above + 1
    while beside < tree.ends[above]:
        if beside != node and whole.paragraph[beside] and _is_leaf(tree, beside):
            return True
        beside = tree.ends[beside]
    return False


def _is_leaf(tree: Tree, node: int) -> bool:
    """Whether no block is below a node."""
    return BLOCKS.isdisjoint(tree.tags[node + 1 : tree.ends[node]])


def _article(tree: Tree, rest: Measures, body: int, skipped: set[int]) -> tuple[int, int]:
    """The range of nodes of the article."""
    weights = rest.paragraph if rest.paragraph[body] >= 2 * PARAGRAPH else rest.text
    root = _named_article(tree, weights, body)
    if root is None:
        root = _smallest(tree, rest, weights, body)
    return _with_title(tree, rest, body, root, skipped), tree.ends[root]


def _named_article(tree: Tree, weights: list[int], body: int) -> int | None:
    """The element that says it is the article, if it holds most of the paragraphs."""
    found, held = None, weights[body] * _AN_ARTICLE
    for node in range(body, tree.ends[body]):
        tag = tree.tags[node]
        if not tag:
            continue
        role = tree.attributes[node].get("role")
        if (tag in ("main", "article") or role in ("main", "article")) and weights[node] > held:
            found, held = node, weights[node] * _NEARLY_ALL
    return found


def _smallest(tree: Tree, rest: Measures, weights: list[int], body: int) -> int:
    """The smallest block that holds nearly all paragraphs and leaves none of its kind outside."""
    enough = weights[body] * _NEARLY_ALL
    found, node = body, body + 1
    while enough > 0 and node < tree.ends[found]:
        if weights[node] < enough:
            node = tree.ends[node]
            continue
        if tree.tags[node] in CONTAINERS:
            if _is_text_of(tree, rest, found, node):
                break
            found = node
        node += 1
    return found


def _is_text_of(tree: Tree, rest: Measures, outer: int, inner: int) -> bool:
    """Whether `outer` is the text and `inner` only its longest part: paragraphs or the like of it beside."""
    kind = (tree.tags[inner], tree.attributes[inner].get("class"))
    node = outer + 1
    while node < tree.ends[outer]:
        tag = tree.tags[node]
        if node == inner or rest.paragraph[node] == 0:
            node = tree.ends[node]
            continue
        if (tag, tree.attributes[node].get("class")) == kind and tree.parents[node] == tree.parents[inner]:
            return True
        if tag not in CONTAINERS and tag in BLOCKS and not tree.ends[node] > inner > node:
            return True
        node = node + 1 if tree.ends[node] > inner > node else tree.ends[node]
    return False


def _with_title(tree: Tree, rest: Measures, body: int, root: int, skipped: set[int]) -> int:
    """Where the article begins: at its title, where that stands just before."""
    titles = [i for i in range(body, root) if tree.tags[i] == "h1" and not _is_below(tree, i, skipped)]
    if not titles or any(tree.tags[i] == "h1" for i in range(root, tree.ends[root])):
        return root
    title = titles[-1]
    between = sum(
        rest.text[i] for i in range(tree.ends[title], root) if not tree.tags[i] and tree.ends[i] <= root
    )
    return title if between <= 3 * PARAGRAPH else root


def _is_below(tree: Tree, node: int, roots: set[int]) -> bool:
    while node >= 0:
        if node in roots:
            return True
        node = tree.parents[node]
    return False


def _lists_of_links(tree: Tree, rest: Measures, start: int, end: int, skipped: set[int]) -> set[int]:
    """Blocks below the article that are mostly links: menus, teasers, lists of other pages."""
    found = set()
    node = start + 1
    while node < end:
        if node in skipped:
            node = tree.ends[node]
        elif tree.tags[node] in BLOCKS and _is_list_of_links(tree, rest, node):
            found.add(node)
            node = tree.ends[node]
        else:
            node += 1
    return found


def _is_list_of_links(tree: Tree, rest: Measures, node: int) -> bool:
    tag, text, link = tree.tags[node], rest.text[node], rest.link[node]
    if tag in NOT_LISTS or link <= _MANY_LINKS * text or rest.paragraph[node] >= 2 * PARAGRAPH:
        return False
    if tag in ("td", "th", "li"):
        return link >= _MENU  # else a cell or an entry whose list is judged as a whole
    return rest.images[node] != 1 or link > _CAPTION


def _orphans(tree: Tree, start: int, end: int, skipped: set[int], lists: set[int]) -> set[int]:
    """Headings of which nothing is left, because what they head was a list of links."""
    found = set()
    heading: int | None = None
    cut = False
    node = start
    while node < end:
        tag = tree.tags[node]
        if node in skipped:
            cut = cut or node in lists
            node = tree.ends[node]
        elif tag in HEADINGS:
            if heading is not None and cut and tag <= tree.tags[heading]:
                found.add(heading)
            heading, cut = node, False
            node = tree.ends[node]
        else:
            if tag in TAGS or (not tag and tree.texts[node].strip()):
                heading = None
            node += 1
    if heading is not None and cut:
        found.add(heading)
    return found
