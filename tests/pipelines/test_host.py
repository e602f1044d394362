"""The host: real requests against a real loopback server."""

import http.client
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.host import serve
from schemas.errors import RecipeError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "www/img").mkdir(parents=True)
    (tmp_path / "www/img/a.jpg").write_bytes(b"picture")
    (tmp_path / "www/img/b.png").write_bytes(b"")
    (tmp_path / "www/img/c.jpg").write_bytes(b"<!doctype html>")
    (tmp_path / "www/img/c.jpg.headers").write_text("X-Robots-Tag: noai\nContent-Type: text/html\n")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return tmp_path / "www"


def _get(url):
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310  only the loopback host of the test
        return response.read(), response.headers


def _status(url):
    with pytest.raises(urllib.error.HTTPError) as caught:
        _get(url)
    caught.value.close()
    return caught.value.code


def test_files_come_with_their_type_and_side_file_headers(folder):
    with serve(folder) as base:
        assert base.startswith("http://127.0.0.1:")
        body, headers = _get(f"{base}/img/a.jpg")
        assert (body, headers["Content-Type"], headers["Content-Length"]) == (b"picture", "image/jpeg", "7")
        body, headers = _get(f"{base}/img/b.png")
        assert (body, headers["Content-Type"]) == (b"", "image/png")
        _, headers = _get(f"{base}/img/c.jpg")
        assert (headers["X-Robots-Tag"], headers.get_all("Content-Type")) == ("noai", ["text/html"])


def test_what_is_not_there_or_outside_or_a_side_file_is_404(folder):
    with serve(folder) as base:
        for path in (
            "img/none.jpg",
            "img",
            "",
            "img/c.jpg.headers",
            "..%2Fsecret.txt",
            "img/..%2F..%2Fsecret.txt",
        ):
            assert _status(f"{base}/{path}") == 404


def test_a_file_written_later_is_served(folder):
    with serve(folder) as base:
        (folder / "img/late.jpg").write_bytes(b"late")
        assert _get(f"{base}/img/late.jpg")[0] == b"late"


def test_one_connection_serves_many_requests_and_many_connections_at_once(folder):
    with serve(folder) as base:
        host = base.removeprefix("http://")

        def ask(_):
            connection = http.client.HTTPConnection(host, timeout=10)
            bodies = []
            for _ in range(20):
                connection.request("GET", "/img/a.jpg")
                bodies.append(connection.getresponse().read())
            connection.close()
            return bodies

        with ThreadPoolExecutor(8) as pool:
            assert all(bodies == [b"picture"] * 20 for bodies in pool.map(ask, range(8)))


def test_the_port_is_free_after_the_context_and_taken_within_it(folder):
    with serve(folder) as base:
        port = int(base.rsplit(":", 1)[1])
        with pytest.raises(RecipeError, match=f"{port}.*choose another port"), serve(folder, port):
            pass
    with serve(folder, port) as again:
        assert again == base
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
