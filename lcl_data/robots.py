"""What a site says to robots, in a header or in a page."""

from collections.abc import Iterable

# Directives that carry a value after a colon, which is therefore no name of an agent.
_VALUED = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")


def directives(values: Iterable[str]) -> set[str]:
    """The directives of X-Robots-Tag headers or robots tags, in lower case.

    The agent before a directive ("somebot: noai") is dropped: who says no to one is not asked again by us.
    """
    found = set()
    for token in ",".join(values).lower().split(","):
        name, _, rest = token.strip().partition(":")
        found.add(rest.strip() if rest and name.strip() not in _VALUED else name.strip())
    return found
