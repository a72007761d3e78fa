"""Downloads against a small server on this machine that behaves as badly as real ones do, and hostile archives."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unheard.corpora import fetch as fetch_module
from unheard.corpora import languages
from unheard.corpora.corpus import Download
from unheard.corpora.fetch import download, fetch, unpack
from unheard.errors import FetchError

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes
MD5 = "md5:" + hashlib.md5(BODY).hexdigest()
TREE = {"db/wav/03a01Fa.wav": b"RIFF one", "db/wav/03a01Nc.wav": b"RIFF two"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


@dataclass
class Site:
    """The server's files and misbehaviour; `requests` are the requests it got."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    ranges: bool = True
    drop_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    redirect: str | None = None
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def asked(self) -> list[str | None]:
        return [wanted for _, wanted in self.requests]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            site.before()
            wanted = self.headers.get("Range")
            site.requests.append((self.path, wanted))
            if site.redirect:
                self.send_response(302)
                self.send_header("Location", site.redirect)
                self.end_headers()
                return
            body = site.bodies.get(self.path)
            if site.statuses or body is None:
                self.send_error(site.statuses.pop(0) if site.statuses else 404)
                return
            first, fresh = 0, self.headers.get("If-Range") in (None, site.etag)
            code, headers = 200, {"ETag": site.etag} if site.etag else {}
            if wanted and site.ranges and fresh:
                first = int(wanted.removeprefix("bytes=").removesuffix("-"))
                code = 416 if first >= len(body) else 206
                whole = f"bytes */{len(body)}" if code == 416 else f"bytes {first}-{len(body) - 1}/{len(body)}"
                headers["Content-Range"] = whole
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(max(0, len(body) - first))}.items():
                self.send_header(name, value)
            self.end_headers()
            stop = first + site.drop_after.pop(0) if site.drop_after else len(body)
            self.wfile.write(body[first:stop])

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Some of these tests are about a client that hangs up in the middle."""

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
    monkeypatch.setattr(fetch_module.time, "sleep", waits.append)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return waits


@pytest.fixture
def use(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let `fetch emodb` download the server's `/a`, with these facts."""

    def change(**facts: object) -> None:
        known = {"url": f"{site.url}/a", "file": "a.zip", "source": "this test"} | facts
        monkeypatch.setattr(languages, "EMODB", replace(languages.EMODB, download=Download(**known)))  # type: ignore[arg-type]

    return change


# One file


def test_a_dropped_connection_is_resumed(site: Site, tmp_path: Path, no_waiting: list[float]) -> None:
    site.bodies["/a"], site.drop_after = BODY, [300_000, 0, 300_000]
    seen: list[tuple[int, int | None]] = []
    download(f"{site.url}/a", tmp_path / "new" / "a", progress=lambda *now: seen.append(now), checksum=MD5)
    assert (tmp_path / "new" / "a").read_bytes() == BODY
    assert names(tmp_path / "new") == ["a"]
    assert seen[-1] == (1_024_000, 1_024_000)
    assert site.asked() == [None, "bytes=262144-", "bytes=262144-", "bytes=524288-"]  # whole blocks of 64 KiB
    assert no_waiting == [1, 2, 1]  # doubles while nothing comes, starts again when something came


def test_what_came_is_kept_for_a_later_call(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"], site.drop_after = BODY, [500_000, 0, 0, 0, 0]
    with pytest.raises(FetchError, match=r"broke off.*458,752 bytes are kept"):
        download(f"{site.url}/a", tmp_path / "a")
    assert names(tmp_path) == ["a.part", "a.part.json"]
    assert (tmp_path / "a.part").read_bytes() == BODY[:458_752]


def test_a_file_that_changed_meanwhile_starts_again(site: Site, tmp_path: Path) -> None:
    site.bodies["/a"], site.drop_after = BODY, [500_000]

    def change() -> None:
        if len(site.requests) == 1:
            site.bodies["/a"], site.etag = b"new" * 300_000, '"v2"'

    site.before = change
    download(f"{site.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new" * 300_000


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"v1"'), (True, None), (True, 'W/"weak"')])
def test_nothing_is_resumed_without_the_servers_word(
    site: Site, tmp_path: Path, ranges: bool, etag: str | None
) -> None:
    site.bodies["/a"], site.drop_after, site.etag, site.ranges = BODY, [500_000], etag, ranges
    download(f"{site.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert site.asked() == ([None, None] if ranges else [None, "bytes=458752-"])


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        (BODY[:458_752], ["bytes=458752-"]),
        (BODY, ["bytes=1024000-"]),  # whole already
        (BODY + b"more", ["bytes=1024004-", None]),  # longer than the file
        (b"?" * 1000, ["bytes=1000-", None]),  # something else
    ],
)
def test_what_an_earlier_call_left(site: Site, tmp_path: Path, part: bytes, asked: list[str | None]) -> None:
    site.bodies["/a"] = BODY
    (tmp_path / "a.part").write_bytes(part)
    (tmp_path / "a.part.json").write_text(json.dumps({"url": f"{site.url}/a", "version": '"v1"'}))
    download(f"{site.url}/a", tmp_path / "a", checksum=MD5)
    assert (tmp_path / "a").read_bytes() == BODY
    assert names(tmp_path) == ["a"]
    assert site.asked() == asked


def test_answers_of_a_server(site: Site, tmp_path: Path, no_waiting: list[float]) -> None:
    site.bodies["/wrong"] = b"something"
    with pytest.raises(FetchError, match=r"not the expected file.*md5:0000"):
        download(f"{site.url}/wrong", tmp_path / "a", checksum="md5:" + "0" * 32)
    assert not list(tmp_path.iterdir())
    site.requests.clear()
    with pytest.raises(FetchError, match="HTTP 404 Not Found"):
        download(f"{site.url}/nowhere", tmp_path / "a")
    assert len(site.requests) == 1
    site.bodies["/a"], site.statuses = BODY, [503, 429]
    download(f"{site.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert no_waiting == [1, 2]
    for url in ("file:///etc/passwd", "ftp://example.org/a", "a.zip", "http://"):
        with pytest.raises(FetchError, match="not a web address"):
            download(url, tmp_path / "b")
    site.redirect = "file:///etc/passwd"
    with pytest.raises(FetchError, match="cannot be used"):
        download(f"{site.url}/a", tmp_path / "b")
    with pytest.raises(FetchError, match="broke off 5 times in a row"):
        download("http://127.0.0.1:9/a", tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_a_silent_server_times_out(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 2)
    monkeypatch.setattr(fetch_module, "TIMEOUT", 0.05)
    site.bodies["/a"], site.before = BODY, lambda: gate.wait(5) and None
    with pytest.raises(FetchError, match="timed out"):
        download(f"{site.url}/a", tmp_path / "a")
    gate.set()


def test_no_room_and_no_folder(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.bodies["/a"] = BODY
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot be written"):
        download(f"{site.url}/a", tmp_path / "file" / "a")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("unheard.corpora.fetch.shutil.disk_usage", lambda _: usage)
    with pytest.raises(FetchError, match=r"0\.0 GB are free"):
        download(f"{site.url}/a", tmp_path / "a")


# A corpus


def test_a_corpus_is_fetched_once(site: Site, tmp_path: Path, use: Callable[..., None]) -> None:
    site.bodies["/a"] = zipped(TREE | {"db/README": b"r", "db/wav/._1": b"x", "__MACOSX/wav/1": b"x"})
    use(strip=1, keep=("wav/*",))
    root = fetch("EmoDB", tmp_path / "emodb")
    assert root == tmp_path / "emodb"
    assert (root / "wav" / "03a01Fa.wav").read_bytes() == b"RIFF one"
    assert [names(root), names(root / "wav")] == [["fetched.json", "wav"], ["03a01Fa.wav", "03a01Nc.wav"]]
    record = json.loads((root / "fetched.json").read_text())
    assert (record["complete"], record["url"]) == (True, f"{site.url}/a")
    assert "CC0" in record["licence"]
    assert fetch("emodb", root) == root
    assert len(site.requests) == 1


def test_lost_files_come_back_and_must_be_the_first_ones(site: Site, tmp_path: Path, use: Callable[..., None]) -> None:
    use()
    site.bodies["/a"] = zipped(TREE)
    root = fetch("emodb", tmp_path / "emodb")
    lost = root / "db" / "wav" / "03a01Fa.wav"
    lost.unlink()
    site.bodies["/a"] = zipped(dict(reversed(TREE.items())))  # packed in another order
    fetch("emodb", root)
    assert lost.read_bytes() == b"RIFF one"
    lost.unlink()
    site.bodies["/a"] = zipped(TREE | {"db/wav/03a01Nc.wav": b"RIFF changed"})
    with pytest.raises(FetchError, match=r"differs from the one first fetched.*new folder"):
        fetch("emodb", root)
    assert (root / "db" / "wav" / "03a01Nc.wav").read_bytes() == b"RIFF two"
    assert not lost.exists()


def test_the_published_checksum_counts_for_mirrors_too(site: Site, tmp_path: Path, use: Callable[..., None]) -> None:
    site.bodies["/mirror"] = zipped(TREE)
    use(checksum="md5:" + "1" * 32)
    with pytest.raises(FetchError, match="md5:1111"):
        fetch("emodb", tmp_path / "emodb", url=f"{site.url}/mirror")
    use(checksum="md5:" + hashlib.md5(site.bodies["/mirror"]).hexdigest())
    assert (fetch("emodb", tmp_path / "emodb", url=f"{site.url}/mirror") / "db").is_dir()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (zipped(TREE | {"../evil": b"!"}), "outside its folder"),
        (b"<html>We are busy", "complete zip or tar"),
        (zipped({"notes/": b""}), "contains no file of the corpus"),
    ],
)
def test_a_useless_archive_leaves_nothing(
    site: Site, tmp_path: Path, use: Callable[..., None], body: bytes, message: str
) -> None:
    use()
    site.bodies["/a"] = body
    with pytest.raises(FetchError, match=message):
        fetch("emodb", tmp_path / "emodb")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["fetched.json"]
    site.bodies["/a"] = zipped(TREE)
    assert (fetch("emodb", tmp_path / "emodb") / "db").is_dir()


def test_a_folder_with_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for record, folder, message in (
        (None, tmp_path, "not empty"),
        (None, tmp_path / "mine.txt", "a file, not a folder"),
        ('{"corpus": "tess"}', tmp_path, "holds 'tess'"),
        ("{", tmp_path, "damaged"),
    ):
        if record:
            (tmp_path / "fetched.json").write_text(record)
        with pytest.raises(FetchError, match=message):
            fetch("emodb", folder)
    assert names(tmp_path) == ["fetched.json", "mine.txt"]
    with pytest.raises(FetchError, match=r"research only.*zhoukun@u\.nus\.edu"):
        fetch("esd", tmp_path / "esd")
    assert not (tmp_path / "esd").exists()


def test_files_in_git_lfs_are_fetched_one_by_one(site: Site, tmp_path: Path, use: Callable[..., None]) -> None:
    sounds = {f"AudioWAV/{n} x.wav": os.urandom(50 + n) for n in range(6)}
    tree = {"repo/LICENSE": b"free"}
    for name, data in sounds.items():
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\n"
        tree[f"repo/{name}"] = f"{pointer}size {len(data)}\n".encode()
        site.bodies["/media/" + name.replace(" ", "%20")] = data
    site.bodies["/a"] = zipped(tree)
    broken = "/media/AudioWAV/3%20x.wav"
    site.bodies[broken] = b"not it"
    use(strip=1, pointers=f"{site.url}/media/")
    with pytest.raises(FetchError, match="not the expected file"):
        fetch("emodb", tmp_path / "c")
    assert not (tmp_path / "c" / "AudioWAV" / "3 x.wav").exists()
    site.bodies[broken] = sounds["AudioWAV/3 x.wav"]
    root = fetch("emodb", tmp_path / "c")
    assert {name: (root / name).read_bytes() for name in sounds} == sounds
    assert (root / "LICENSE").read_bytes() == b"free"
    paths = [path for path, _ in site.requests]
    assert (paths.count("/a"), paths.count("/media/AudioWAV/0%20x.wav")) == (1, 1)


# An archive


def tarred(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


OUTSIDE = ("../evil", "a/../../evil", "/evil", "C:\\evil", "..\\evil", "a/\x07")


def test_places_outside_links_devices_bombs_and_repeated_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "box" / "a"
    path.parent.mkdir()

    def refused(message: str, most_bytes: int | None = None) -> None:
        with pytest.raises(FetchError, match=message):
            unpack(path, path.parent / "out", most_bytes=most_bytes)

    for name in OUTSIDE:
        path.write_bytes(zipped({"good": b"g", name: b"bad"}))
        refused("outside its folder")
        tarred(path, {"good": b"g", name: b"bad"})
        refused("outside its folder")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        with tarfile.open(path, "w") as tar:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        refused("not a plain file")
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    refused("not a plain file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/x", "1")
        archive.writestr("a//x", "2")
    refused("'a/x' twice")
    path.write_bytes(zipped({"zeros": bytes(3_000_000)}))
    refused("more than 1,000,000 bytes", 1_000_000)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a"]
    lying = path.read_bytes().replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(lying)  # declares 10 bytes
    refused("complete zip or tar", 1_000_000)
    assert sum(file.stat().st_size for file in (path.parent / "out").iterdir()) <= 10


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path, noise = tmp_path / "a", os.urandom(100_000)
    for kind in ("zip", "gz", "xz", "bz2"):
        if kind == "zip":
            path.write_bytes(zipped({"a": noise}))
        else:
            tarred(path, {"a": noise}, f"w:{kind}")
        data = path.read_bytes()
        for spoilt in (b"hello", data[:50_000], data[:500] + bytes([data[500] ^ 1]) + data[501:]):
            path.write_bytes(spoilt)
            with pytest.raises(FetchError, match="complete zip or tar"):
                unpack(path, tmp_path / "out")
