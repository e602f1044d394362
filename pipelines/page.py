"""The frame of the pages of `lcl inspect --html`: plain HTML, no script, nothing fetched; it opens anywhere.

What a page shows comes from corpora that anybody may have written: all of it is escaped by whoever makes the
body, and the page forbids itself whatever is not in it.
"""

from html import escape

COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px system-ui, sans-serif; margin: 2rem auto; max-width: 1340px; padding: 0 1rem; }
figure { margin: 0; } text { font-size: 11px; fill: currentColor; } svg { display: block; }
td, th { padding: .1rem .9rem .1rem 0; text-align: left; } td { font-variant-numeric: tabular-nums; }
"""


def html_page(title: str, style: str, body: str) -> str:
    """A whole page.

    Args:
        title: plain text; it is the heading too.
        style: rules besides those of all pages.
        body: HTML after the heading.
    """
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>{escape(title)}</title>\n'
        f"<style>{_STYLE}{style}</style>\n<h1>{escape(title)}</h1>\n{body}</html>\n"
    )
