"""Downloads against a small server on this machine that behaves as badly as real ones do."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from archives import names, zipped

from unheard.corpora import CORPORA, official
from unheard.corpora import fetch as fetch_module
from unheard.corpora import fetch as transfer
from unheard.corpora.fetch import DOWNLOADS, Download, download, fetch
from unheard.errors import FetchError

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes


@dataclass
class Site:
    """What the server has and how it misbehaves; `heard` are the requests it got."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    ranges: bool = True
    drop_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    redirect: str | None = None
    heard: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            site.before()
            wanted = self.headers.get("Range")
            site.heard.append((self.path, wanted))
            if site.redirect:
                self.send_response(302)
                self.send_header("Location", site.redirect)
                self.end_headers()
                return
            if site.statuses:
                self.send_error(site.statuses.pop(0))
                return
            body = site.bodies.get(self.path)
            if body is None:
                self.send_error(404)
                return
            first, fresh = 0, self.headers.get("If-Range") in (None, site.etag)
            if wanted and site.ranges and fresh:
                first = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if first >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            if site.etag:
                self.send_header("ETag", site.etag)
            self.send_header("Content-Length", str(len(body) - first))
            self.end_headers()
            stop = first + site.drop_after.pop(0) if site.drop_after else len(body)
            self.wfile.write(body[first:stop])

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up in the middle is what some of these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return waits


def use(monkeypatch: pytest.MonkeyPatch, **facts: object) -> None:
    """Let `fetch emodb` be about a download with these facts."""
    known = {"url": "http://127.0.0.1:9/none", "file": "a.zip", "source": "this test"} | facts
    monkeypatch.setitem(fetch_module.DOWNLOADS, "emodb", Download(**known))  # type: ignore[arg-type]


# One file ----------------------------------------------------------------------------------------


def test_brings_a_file_and_leaves_nothing_else(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"] = BODY
    seen: list[tuple[int, int | None]] = []
    received = download(f"{site.url}/a", tmp_path / "new" / "a", progress=lambda *now: seen.append(now))
    assert (tmp_path / "new" / "a").read_bytes() == BODY
    assert received.size == 1_024_000
    assert received.sha256 == hashlib.sha256(BODY).hexdigest()
    assert names(tmp_path / "new") == ["a"]
    assert seen[-1] == (1_024_000, 1_024_000)


def test_goes_on_after_the_connection_drops(site: Site, tmp_path: Path, no_waiting: list[float]) -> None:
    site.bodies["/a"], site.drop_after = BODY, [300_000, 0, 300_000]
    download(f"{site.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    ranges = [wanted for _, wanted in site.heard]
    assert ranges == [None, "bytes=300000-", "bytes=300000-", "bytes=600000-"]
    assert no_waiting == [1, 2, 1]  # doubles while nothing comes, starts again when something came


def test_a_later_call_goes_on_where_the_first_gave_up(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"], site.drop_after = BODY, [500_000, 0, 0, 0, 0]
    with pytest.raises(FetchError, match=r"broke off.*500,000 bytes are kept"):
        download(f"{site.url}/a", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    site.heard.clear()
    site.drop_after.clear()
    download(f"{site.url}/a", tmp_path / "a", checksum="sha256:" + hashlib.sha256(BODY).hexdigest())
    assert site.heard == [("/a", "bytes=500000-")]
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_file_that_changed_meanwhile_starts_again(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"], site.drop_after = BODY, [500_000]

    def change() -> None:
        if len(site.heard) == 1:
            site.bodies["/a"], site.etag = b"new" * 300_000, '"v2"'

    site.before = change
    download(f"{site.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new" * 300_000


def test_a_server_without_ranges_starts_again(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"], site.drop_after, site.ranges = BODY, [500_000], False
    download(f"{site.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_nothing_is_continued_that_the_server_cannot_confirm(site: Site, tmp_path: Path, etag: str | None) -> None:
    site.bodies["/a"], site.drop_after, site.etag = BODY, [500_000], etag
    download(f"{site.url}/a", tmp_path / "a")
    assert [wanted for _, wanted in site.heard] == [None, None]
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_part_that_was_whole_already_is_taken(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"] = BODY
    (tmp_path / "a.part").write_bytes(BODY)
    (tmp_path / "a.part.json").write_text(json.dumps({"url": f"{site.url}/a", "validator": '"v1"'}))
    download(f"{site.url}/a", tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert site.heard == [("/a", "bytes=1024000-")]


def test_a_part_longer_than_the_file_starts_again(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"] = BODY
    (tmp_path / "a.part").write_bytes(BODY + b"more")
    (tmp_path / "a.part.json").write_text(json.dumps({"url": f"{site.url}/a", "validator": '"v1"'}))
    download(f"{site.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_spoilt_part_is_thrown_away_once(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"] = BODY
    (tmp_path / "a.part").write_bytes(b"?" * 1000)
    (tmp_path / "a.part.json").write_text(json.dumps({"url": f"{site.url}/a", "validator": '"v1"'}))
    download(f"{site.url}/a", tmp_path / "a", checksum="md5:" + hashlib.md5(BODY).hexdigest())
    assert [wanted for _, wanted in site.heard] == ["bytes=1000-", None]
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_wrong_file_never_arrives(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"] = b"<!DOCTYPE html><p>Please log in"
    with pytest.raises(FetchError, match=r"not the expected file.*md5:0000.*web page"):
        download(f"{site.url}/a", tmp_path / "a", checksum="md5:" + "0" * 32)
    assert names(tmp_path) == []


def test_a_missing_file_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"no such file \(HTTP 404\)"):
        download(f"{site.url}/nowhere", tmp_path / "a")
    assert len(site.heard) == 1


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path, no_waiting: list[float]) -> None:
    site.bodies["/a"], site.statuses = BODY, [503, 429]
    download(f"{site.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert no_waiting == [1, 2]


def test_a_silent_server_times_out(site: Site, tmp_path: Path) -> None:
    gate = threading.Event()
    site.bodies["/a"], site.before = BODY, lambda: gate.wait(5) and None
    with pytest.raises(FetchError, match="timed out"):
        download(f"{site.url}/a", tmp_path / "a", timeout=0.05, attempts=2)
    gate.set()


def test_nobody_at_home(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="broke off 5 times in a row"):
        download("http://127.0.0.1:9/a", tmp_path / "a")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a", "a.zip", "http://"])
def test_only_addresses_on_the_web(tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchError, match="not an address on the web"):
        download(url, tmp_path / "a")


def test_redirects_are_followed_but_not_out_of_the_web(site: Site, tmp_path: Path) -> None:
    site.redirect = "file:///etc/passwd"
    with pytest.raises(FetchError):
        download(f"{site.url}/a", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_full_disk_says_so(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.bodies["/a"] = BODY
    monkeypatch.setattr("unheard.corpora.fetch.shutil.disk_usage", lambda _: Free)
    with pytest.raises(FetchError, match=r"0\.0 GB are free"):
        download(f"{site.url}/a", tmp_path / "a")


class Free:
    free = 1000


def test_a_place_that_is_no_folder_says_so(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot write here"):
        download(f"{site.url}/a", tmp_path / "file" / "a")


# A corpus ----------------------------------------------------------------------------------------

TREE = {"db/wav/03a01Fa.wav": b"RIFF one", "db/wav/03a01Nc.wav": b"RIFF two"}


def test_fetches_once(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.bodies["/a"] = zipped(TREE)
    use(monkeypatch, strip=1)
    root = fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a")
    assert root == tmp_path / "emodb"
    assert (root / "wav" / "03a01Fa.wav").read_bytes() == b"RIFF one"
    assert names(root) == ["fetched.json", "wav"]
    record = json.loads((root / "fetched.json").read_text())
    assert record["archive"]["sha256"] == hashlib.sha256(site.bodies["/a"]).hexdigest()
    assert record["complete"] is True
    assert fetch("EmoDB", root, url=f"{site.url}/a") == root
    assert len(site.heard) == 1


def test_lost_files_come_back_and_must_be_the_first_ones(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.bodies["/a"] = zipped(TREE)
    use(monkeypatch)
    root = fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a")
    lost = root / "db" / "wav" / "03a01Fa.wav"
    lost.unlink()
    fetch("emodb", root, url=f"{site.url}/a")
    assert lost.read_bytes() == b"RIFF one"
    lost.unlink()
    site.bodies["/a"] = zipped(TREE | {"db/wav/03a01Fa.wav": b"RIFF other"})
    with pytest.raises(FetchError, match=r"not the one seen first here.*new folder"):
        fetch("emodb", root, url=f"{site.url}/a")
    assert not lost.exists()


def test_an_archive_packed_on_demand_is_known_by_its_contents(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, made_on_demand=True)
    site.bodies["/a"] = zipped(TREE)
    root = fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a")
    lost = root / "db" / "wav" / "03a01Fa.wav"
    lost.unlink()
    site.bodies["/a"] = zipped(dict(reversed(TREE.items())))
    fetch("emodb", root, url=f"{site.url}/a")
    assert lost.is_file()
    lost.unlink()
    site.bodies["/a"] = zipped(TREE | {"db/wav/03a01Nc.wav": b"RIFF changed"})
    with pytest.raises(FetchError, match="something else than when it was first fetched"):
        fetch("emodb", root, url=f"{site.url}/a")
    assert (root / "db" / "wav" / "03a01Nc.wav").read_bytes() == b"RIFF two"


def test_the_published_checksum_counts_for_mirrors_too(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.bodies["/a"] = zipped(TREE)
    use(monkeypatch, checksum="md5:" + "1" * 32)
    with pytest.raises(FetchError, match="md5:1111"):
        fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a")
    use(monkeypatch, checksum="md5:" + hashlib.md5(site.bodies["/a"]).hexdigest())
    assert (fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a") / "db").is_dir()


def test_an_evil_archive_leaves_nothing(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.bodies["/a"] = zipped(TREE | {"../evil": b"!"})
    use(monkeypatch)
    with pytest.raises(FetchError, match="outside its folder"):
        fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["fetched.json"]


def test_a_useless_first_answer_does_not_count_as_seen(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch)
    site.bodies["/a"] = b"<html>We are busy"
    with pytest.raises(FetchError, match="whole zip or tar"):
        fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a")
    site.bodies["/a"] = zipped({"notes/": b""})
    with pytest.raises(FetchError, match="nothing of the corpus"):
        fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a")
    site.bodies["/a"] = zipped(TREE)
    assert (fetch("emodb", tmp_path / "emodb", url=f"{site.url}/a") / "db").is_dir()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FetchError, match="not empty"):
        fetch("emodb", tmp_path)
    assert names(tmp_path) == ["mine.txt"]
    (tmp_path / "fetched.json").write_text('{"corpus": "tess"}')
    with pytest.raises(FetchError, match="holds 'tess'"):
        fetch("emodb", tmp_path)
    (tmp_path / "fetched.json").write_text("{")
    with pytest.raises(FetchError, match="damaged"):
        fetch("emodb", tmp_path)


def test_files_kept_in_git_lfs_come_one_by_one(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = {f"AudioWAV/{n} x.wav": os.urandom(50 + n) for n in range(6)}
    tree = {"repo/LICENSE": b"free"}
    for name, data in sounds.items():
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\n"
        tree[f"repo/{name}"] = f"{pointer}size {len(data)}\n".encode()
        site.bodies["/media/" + name.replace(" ", "%20")] = data
    site.bodies["/a"] = zipped(tree)
    broken = "/media/AudioWAV/3%20x.wav"
    site.bodies[broken] = b"not it"
    use(monkeypatch, strip=1, made_on_demand=True, pointers=f"{site.url}/media/")
    with pytest.raises(FetchError, match="not the expected file"):
        fetch("emodb", tmp_path / "c", url=f"{site.url}/a")
    assert not (tmp_path / "c" / "AudioWAV" / "3 x.wav").exists()
    site.bodies[broken] = sounds["AudioWAV/3 x.wav"]
    root = fetch("emodb", tmp_path / "c", url=f"{site.url}/a")
    assert {name: (root / name).read_bytes() for name in sounds} == sounds
    assert (root / "LICENSE").read_bytes() == b"free"
    assert len([path for path, _ in site.heard if path == "/a"]) == 1  # the archive was not fetched again
    asked = [path for path, _ in site.heard if path == "/media/AudioWAV/0%20x.wav"]
    assert len(asked) == 1


def test_what_may_not_be_downloaded_says_where_to_ask(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        fetch("esd", tmp_path / "esd")
    assert "zhoukun@u.nus.edu" in str(caught.value)
    assert not (tmp_path / "esd").exists()


def test_the_table_agrees_with_the_readers() -> None:
    assert set(DOWNLOADS) <= set(CORPORA)
    for name in CORPORA:
        if name != "synthetic":
            assert official(name).fetchable == (name in DOWNLOADS), name
    for source in DOWNLOADS.values():
        kind, _, digits = (source.checksum or "md5:" + "0" * 32).partition(":")
        assert len(digits) == {"md5": 32, "sha256": 64}[kind]
