"""Web archives written by hand, and what the source `warc` reads in them."""

import gzip
import io
from functools import partial

from PIL import Image as Pixels

from lcl_data.sources.warc import Warc
from schemas.documents import Document

LONG = (
    "The keeper climbed the stairs every evening and lit the lamp before the first ship came round the cape."
)
SITE = "http://site.example/a/"


def page(text=LONG, *tags, head=""):
    return f"<html><head>{head}</head><body><p>{LONG}</p>{''.join(tags)}<p>{text}</p></body></html>".encode()


def png(colour="red", size=(40, 30)):
    file = io.BytesIO()
    Pixels.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def http(body, kind="text/html; charset=utf-8", status=200, **headers):
    lines = [f"HTTP/1.1 {status} Some reason", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def record(url, block, kind="response", date="2024-05-06T07:08:09Z", **headers):
    lines = [f"WARC/1.1\r\nWARC-Type: {kind}", f"WARC-Target-URI: {url}", f"WARC-Date: {date}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(block)}", "", ""]).encode() + block + b"\r\n\r\n"


def arc(url, block, kind="text/html", date="20010203040506"):
    return f"{url} 192.0.2.1 {date} {kind} {len(block)}\n".encode() + block + b"\n"


INFO = record("", b"software: none\r\n", "warcinfo")
PAGE = record(SITE + "p.html", http(page("One.", "<img src=x.png>")))
PICTURE = record(SITE + "x.png", http(png(), "image/png"))
SECOND = record(SITE + "q.html", http(page("Two.")))
ARCHIVE = [INFO, record(SITE + "p.html", b"GET / HTTP/1.1\r\n\r\n", "request"), PAGE, PICTURE, SECOND]
VERSION = arc(
    "filedesc://x.arc",
    b"1 0 Somebody\nURL IP-address Archive-date Content-type Archive-length\n",
    "text/plain",
)
ARC = [
    VERSION,
    arc(SITE + "p.html", http(page("One.", "<img src=x.png>"))),
    arc(SITE + "x.png", http(png(), "image/png")),
]
PACKED = partial(gzip.compress, mtime=0)


def write(path, parts):
    """An archive; packed record by record where its name ends in .gz."""
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"".join(map(PACKED, parts) if path.suffix == ".gz" else parts))
    return path


def rows(path, **options):
    source = Warc(**options)
    return [row for unit in source.units(path) for row in source.read(unit)]


def outcomes(found):
    """Last words of what was kept, reasons of what was not."""
    return [
        r.document.texts[-1].split()[-1] if type(r.document) is Document else r.document.reason for r in found
    ]
