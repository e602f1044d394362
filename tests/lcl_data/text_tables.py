"""Tables of pairs as text, and what a source reads in them."""

import gzip

URL = "http://host.example/a.jpg"
LINES = [(f"http://h.example/{n}.jpg", f'it\'s "{n}", a boat') for n in range(50)]


def rows_of(source, path):
    return [row for unit in source.units(path) for row in source.read(unit)]


def text_file(path, content):
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
