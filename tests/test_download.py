"""Downloads against a local HTTP server: progress kept over interruptions, clear explanations."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from dynamite_widget.errors import CheckpointError
from dynamite_widget.model import download
from dynamite_widget.model.download import (
    PUBLISHED,
    download_published,
    fetch_cached,
    fetch_url,
    find_published,
)

CONTENT = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    content, etag, ranges = CONTENT, '"one"', True
    interruptions = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    """Serves `content` with Range and If-Range; closes early as often as the test asks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        assert isinstance(server, Server)
        server.requests.append(dict(self.headers))
        if self.path == "/missing":
            self.send_error(404, "Not Found")
            return
        content, start = server.content, 0
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == server.etag and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.interruptions > 0:
            server.interruptions -= 1
            self.wfile.write(body[: len(body) // 3])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    http = Server()
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))


def test_plain_download(server, tmp_path):
    path = fetch_url(server.url, tmp_path / "new" / "a.pth")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["a.pth"]
    assert "Range" not in server.requests[0]


def test_an_interrupted_transfer_is_resumed_at_once(server, tmp_path):
    server.interruptions = 1
    path = fetch_url(server.url, tmp_path / "a.pth")
    assert path.read_bytes() == CONTENT
    assert server.requests[1]["Range"] == f"bytes={len(CONTENT) // 3}-"
    assert server.requests[1]["If-Range"] == '"one"'


def test_the_next_call_goes_on_where_the_last_one_gave_up(server, tmp_path):
    path = tmp_path / "a.pth"
    server.interruptions = 3
    with pytest.raises(CheckpointError, match=r"closed after .* kept in .*a\.pth\.part"):
        fetch_url(server.url, path)
    assert not path.exists()
    received = (tmp_path / "a.pth.part").stat().st_size
    assert 0 < received < len(CONTENT)
    server.requests.clear()
    assert fetch_url(server.url, path).read_bytes() == CONTENT
    assert server.requests[0]["Range"] == f"bytes={received}-"
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_a_file_that_changed_is_fetched_afresh(server, tmp_path):
    server.interruptions = 3
    with pytest.raises(CheckpointError):
        fetch_url(server.url, tmp_path / "a.pth")
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert fetch_url(server.url, tmp_path / "a.pth").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges(server, tmp_path):
    server.ranges, server.interruptions = False, 1
    assert fetch_url(server.url, tmp_path / "a.pth").read_bytes() == CONTENT


def test_a_part_that_is_too_long_starts_afresh(server, tmp_path):
    (tmp_path / "a.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / "a.pth.part.tag").write_text('"one"')
    assert fetch_url(server.url, tmp_path / "a.pth").read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_not_trusted(server, tmp_path):
    (tmp_path / "a.pth.part").write_bytes(b"something else")
    assert fetch_url(server.url, tmp_path / "a.pth").read_bytes() == CONTENT


def test_failures_keep_the_old_file(server, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"old")
    with pytest.raises(CheckpointError, match="HTTP 404"):
        fetch_url(server.url.replace("weights.pth", "missing"), path)
    assert path.read_bytes() == b"old"


def test_only_http_addresses(tmp_path):
    with pytest.raises(CheckpointError, match="only http"):
        fetch_url("file:///etc/hosts", tmp_path / "a")


def test_an_address_is_fetched_once(server):
    path = fetch_cached(server.url)
    assert path.name.endswith("-weights.pth")
    assert fetch_cached(server.url) == path
    assert len(server.requests) == 1
    assert fetch_cached(server.url + "?version=2") != path


def test_load_model_takes_an_address(server, tmp_path, monkeypatch):
    checkpoints = pytest.importorskip("dynamite_widget.model.checkpoints")
    with pytest.raises(CheckpointError, match=r"damaged|refused"):
        checkpoints.load_model("lite", server.url, device="cpu")
    assert len(list(download.cache_dir().glob("*-weights.pth"))) == 1


# ---- the authors' files --------------------------------------------------------------------------


def drive(monkeypatch, content: bytes | Exception | None) -> list[dict]:
    calls: list[dict] = []

    def fake(**options):
        calls.append(options)
        if isinstance(content, Exception):
            raise content
        if content is not None:
            with open(options["output"], "wb") as file:  # noqa: PTH123
                file.write(content)

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=fake))
    return calls


def test_published_file_lands_in_the_cache(monkeypatch):
    calls = drive(monkeypatch, b"PK\x03\x04...")
    path = download_published("swin-tiny")
    assert path == download.cache_dir() / "dynamite_swin_tiny_bs32_ep50.pth"
    assert calls[0]["id"] == PUBLISHED["swin-tiny"].drive_id
    assert calls[0]["resume"] is True
    assert find_published("swin-tiny") == path
    assert download_published("swin-tiny") == path
    assert len(calls) == 1, "a file that is there is not fetched again"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (RuntimeError("quota exceeded\nmore"), "quota exceeded"),
        (None, "sent no file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "a web page"),
    ],
)
def test_failures_explain_how_to_do_it_by_hand(monkeypatch, tmp_path, content, reason):
    drive(monkeypatch, content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        download_published("hrnet32", tmp_path / "here")
    text = str(caught.value)
    assert PUBLISHED["hrnet32"].page in text
    assert str(tmp_path / "here" / "dynamite_hrnet32_bs32_ep50.pth") in text
    assert not list((tmp_path / "here").iterdir())


def test_without_gdown_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(CheckpointError, match=r"dynamite-widget\[download\]"):
        download_published("resnet50")


def test_unpublished_preset():
    with pytest.raises(ValueError, match="no published checkpoint for preset 'lite'"):
        download_published("lite")
    assert find_published("lite") is None


def test_command_line(monkeypatch, tmp_path, caplog):
    from dynamite_widget.cli import main

    drive(monkeypatch, b"PK\x03\x04...")
    with caplog.at_level("INFO", "dynamite_widget"):
        assert main(["download", "resnet50", "--directory", str(tmp_path)]) == 0
    assert (tmp_path / "dynamite_R50_bs32_ep50.pth").is_file()
    assert "dynamite_R50_bs32_ep50.pth" in caplog.text
