"""Servers of object storage on loopback, S3's and Google's, each in a process of its own: their threads and
warnings stay out of the tests.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

SERVER = """
import logging, sys
logging.disable(logging.CRITICAL)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""
GOOGLE_SERVER = """
import logging, sys
logging.disable(logging.CRITICAL)
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True)
server.start()
print(server._api._httpd.server_address[1], flush=True)
sys.stdin.read()
server.stop()
"""
# What a person would set: fsspec, botocore and boto3 read it, in every process that is started.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


# No look for credentials, which would leave this machine.
GOOGLE = {"NO_GCE_CHECK": "true", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


class Storage:
    """The server of S3, and a client of it that is not ours."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        self._client: Any = boto3.client("s3")
        self.endpoint = endpoint

    def bucket(self, name: str) -> str:
        """Make an empty bucket; its URL."""
        self._client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def upload(self, folder: Path, bucket: str) -> None:
        """Put all files of a folder into a bucket."""
        for path in folder.rglob("*"):
            if path.is_file():
                key = path.relative_to(folder).as_posix()
                self._client.upload_file(str(path), bucket.removeprefix("s3://"), key)

    def names(self, bucket: str) -> list[str]:
        """All keys of a bucket, sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket.removeprefix("s3://"))
        return sorted(each["Key"] for page in pages for each in page.get("Contents", ()))

    def content(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        found = self._client.get_object(Bucket=bucket.removeprefix("s3://"), Key=key)
        content: bytes = found["Body"].read()
        return content


class GoogleStorage:
    """The server of Google's storage, asked over its own HTTP interface."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def bucket(self, name: str) -> str:
        """Make an empty bucket; its URL."""
        self._ask("storage/v1/b?project=p", json.dumps({"name": name}).encode(), "application/json")
        return f"gs://{name}"

    def upload(self, folder: Path, bucket: str) -> None:
        """Put all files of a folder into a bucket."""
        for path in folder.rglob("*"):
            if path.is_file():
                key = quote(path.relative_to(folder).as_posix(), safe="")
                where = f"upload/storage/v1/b/{bucket.removeprefix('gs://')}/o?uploadType=media&name={key}"
                self._ask(where, path.read_bytes(), "application/octet-stream")

    def names(self, bucket: str) -> list[str]:
        """All keys of a bucket, sorted."""
        found = json.loads(self._ask(f"storage/v1/b/{bucket.removeprefix('gs://')}/o"))
        assert "nextPageToken" not in found
        return sorted(each["name"] for each in found.get("items", ()))

    def content(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        return self._ask(f"storage/v1/b/{bucket.removeprefix('gs://')}/o/{quote(key, safe='')}?alt=media")

    def _ask(self, where: str, body: bytes | None = None, kind: str = "") -> bytes:
        connection = HTTPConnection(self.endpoint.removeprefix("http://"))
        headers = {"Content-Type": kind} if kind else {}
        connection.request("GET" if body is None else "POST", f"/{where}", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status == 200, content
        return content


@contextmanager
def serve_storage(scratch: Path) -> Iterator[Storage]:
    """Serve S3 while the context lasts, and point every client at it."""
    with _server(SERVER, "AWS_ENDPOINT_URL", CREDENTIALS, scratch) as endpoint:
        yield Storage(endpoint)


@contextmanager
def serve_google_storage(scratch: Path) -> Iterator[GoogleStorage]:
    """Serve Google's storage while the context lasts, and point every client at it."""
    with _server(GOOGLE_SERVER, "STORAGE_EMULATOR_HOST", GOOGLE, scratch) as endpoint:
        yield GoogleStorage(endpoint)


@contextmanager
def _server(program: str, variable: str, others: dict[str, str], scratch: Path) -> Iterator[str]:
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdin and process.stdout
        endpoint = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**others, variable: endpoint, "LCL_SCRATCH": str(scratch)}.items():
                patch.setenv(name, value)
            patch.delenv("AWS_PROFILE", raising=False)
            yield endpoint
        process.stdin.close()
