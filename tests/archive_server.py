"""An archive on this machine that can be told to misbehave."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


def fits(size: int, seed: int = 0) -> bytes:
    """Return bytes that begin as a FITS file does."""
    return (b"SIMPLE  =" + hashlib.shake_128(bytes([seed])).digest(size))[:size]


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


class Archive(ThreadingHTTPServer):
    """Files by path, what was asked for, and how answers go wrong.

    `breaks` answers end after `piece` bytes; `statuses` are answered first, one for each request;
    `ranges` whether ranges are heard; `checks` whether If-Range is; `announces` whether lengths
    are told; ranges begin `slip` bytes too early; `validators` are headers of every answer instead
    of the content's ETag.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.breaks = 0
        self.piece = 3000
        self.slip = 0
        self.statuses: list[int] = []
        self.ranges = self.checks = self.announces = True
        self.content_type = "application/fits"
        self.validators: dict[str, str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def dataset(self, *files: tuple[int, str, bytes]) -> None:
        """Serve a data set of the Dataverse: number, name and content of its files."""
        records = []
        for number, name, content in files:
            self.files[f"/api/access/datafile/{number}"] = content
            record = {"id": number, "filename": name, "filesize": len(content)}
            records.append({"dataFile": record | {"md5": hashlib.md5(content).hexdigest()}})
        answer = {"data": {"latestVersion": {"files": records}}}
        self.files["/api/datasets/:persistentId"] = json.dumps(answer).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Archive

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        archive = self.server
        path = self.path.partition("?")[0]
        archive.asked.append((path, self.headers.get("Range")))
        archive.headers.append(dict(self.headers))
        if archive.statuses:
            return self.send_error(archive.statuses.pop(0))
        if path not in archive.files:
            return self.send_error(404)
        content = archive.files[path]
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        start, wanted = 0, self.headers.get("Range")
        same = not archive.checks or self.headers.get("If-Range") in (None, etag)
        if wanted and archive.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) - archive.slip
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        validators = {"ETag": etag} if archive.validators is None else archive.validators
        for name, value in validators.items():
            self.send_header(name, value)
        self.send_header("Content-Type", archive.content_type)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if archive.announces:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if archive.breaks:
            archive.breaks -= 1
            end = min(end, start + archive.piece)
        self.wfile.write(content[start:end])
        return None


@contextmanager
def serve() -> Iterator[Archive]:
    """Run an archive."""
    with Archive() as archive:
        thread = Thread(target=archive.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield archive
        finally:
            archive.shutdown()
            thread.join()
