"""Downloads over real HTTP, from a server in this process."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from training.datasets.download import DownloadFailed, Remote
from training.errors import DataCorrupt

CONTENT = bytes(range(256)) * 4000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:-1] if self.path == "/short" else CONTENT)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def remote(url: str, content: bytes = CONTENT) -> Remote:
    return Remote(url, hashlib.md5(content).hexdigest())


@pytest.mark.parametrize("page", ["/file", "/unsized"])
def test_a_file_arrives_whole(server: str, tmp_path: Path, page: str) -> None:
    path = tmp_path / "new" / "file"
    remote(server + page).download(path)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("page", "content"), [("/file", b"other"), ("/short", CONTENT)])
def test_another_checksum_is_refused_and_nothing_kept(server: str, tmp_path: Path, page: str, content: bytes) -> None:
    path = tmp_path / "file"
    with pytest.raises((DataCorrupt, DownloadFailed)):
        remote(server + page, content).download(path)
    assert not list(tmp_path.iterdir())


def test_a_wrong_checksum_names_file_and_both_sums(server: str, tmp_path: Path) -> None:
    wanted = remote(server + "/file", b"other")
    with pytest.raises(DataCorrupt, match=f"{tmp_path / 'file'}.*{hashlib.md5(CONTENT).hexdigest()}.*{wanted.md5}"):
        wanted.download(tmp_path / "file")


def test_the_reason_of_a_failure_is_told(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="404"):
        remote(server + "/missing").download(tmp_path / "new" / "file")
    with pytest.raises(DownloadFailed, match="refused"):
        remote("http://127.0.0.1:9/file").download(tmp_path / "new" / "file")
    assert not (tmp_path / "new").exists()
