"""How much text, and of which kind, lies below each node of a page."""

from dataclasses import dataclass
from itertools import accumulate

from lcl_data.page_pictures import TAGS
from lcl_data.page_tree import Tree
from lcl_data.page_words import BLOCKS

PARAGRAPH = 80  # characters outside links that make a block a paragraph


@dataclass(slots=True)
class Measures:
    """Per node, what its subtree holds.

    Attributes:
        text: characters, white space apart.
        link: those of them in links.
        paragraph: those outside links in blocks that have at least `PARAGRAPH` of them.
        images: pictures.
    """

    text: list[int]
    link: list[int]
    paragraph: list[int]
    images: list[int]


def measure(tree: Tree, characters: list[int], without: set[int]) -> Measures:
    """Sums over every subtree, leaving out those of `without`."""
    text = characters.copy()
    images = [int(tag in TAGS) for tag in tree.tags]
    for node in without:
        nothing = [0] * (tree.ends[node] - node)
        text[node : tree.ends[node]] = images[node : tree.ends[node]] = nothing
    link = _linked(tree, text)
    return Measures(*(_sums(tree, own) for own in (text, link, _paragraphs(tree, text, link), images)))


def characters_of(tree: Tree) -> list[int]:
    """Characters of each text, white space apart; of a `<noscript>` none."""
    found = [len("".join(text.split())) if text and not text.isspace() else 0 for text in tree.texts]
    for node, tag in enumerate(tree.tags):
        if tag == "noscript":
            found[node : tree.ends[node]] = [0] * (tree.ends[node] - node)
    return found


def _linked(tree: Tree, text: list[int]) -> list[int]:
    """Of those of each text, the ones in links."""
    link = [0] * len(text)
    for node, tag in enumerate(tree.tags):
        if tag == "a" and tree.attributes[node].get("href"):
            link[node : tree.ends[node]] = text[node : tree.ends[node]]
    return link


def _paragraphs(tree: Tree, text: list[int], link: list[int]) -> list[int]:
    """Characters outside links of each block that has enough of them to be a paragraph."""
    found = [0] * len(text)
    block = list(range(len(text)))
    for node, tag in enumerate(tree.tags):
        if tag not in BLOCKS and node:
            block[node] = block[tree.parents[node]]
            found[block[node]] += text[node] - link[node]
    return [count if count >= PARAGRAPH else 0 for count in found]


def _sums(tree: Tree, own: list[int]) -> list[int]:
    """Of every subtree."""
    until = [0, *accumulate(own)]
    return [until[end] - until[node] for node, end in enumerate(tree.ends)]
