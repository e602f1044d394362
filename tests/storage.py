"""A real S3 server on loopback, in a process of its own: its threads and warnings stay out of the tests."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
# What a person would set: fsspec, botocore and boto3 read it, in every process that is started.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Storage:
    """The server, and a client of it that is not ours."""

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


@contextmanager
def serve_storage(scratch: Path) -> Iterator[Storage]:
    """Serve while the context lasts, and point every client at it."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        endpoint = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
                patch.setenv(name, value)
            patch.setenv("LCL_SCRATCH", str(scratch))
            patch.delenv("AWS_PROFILE", raising=False)
            yield Storage(endpoint)
        process.stdin.close()
