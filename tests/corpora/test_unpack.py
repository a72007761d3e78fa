"""Archives from strangers: what is wanted comes out, nothing is written outside, and bombs are refused."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from archives import zipped

from unheard.corpora.fetch import unpack
from unheard.errors import FetchError


def test_unpacks_what_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    members = {"top/wav/1.wav": b"one", "top/wav/2.wav": b"two", "top/README": b"r", "__MACOSX/._1": b"x"}
    path.write_bytes(zipped(members))
    got = unpack(path, tmp_path / "out", strip=1, keep=("wav/*",))
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.*")) == ["1.wav", "2.wav"]
    assert (got.files, got.size) == (2, 6)


def test_contents_have_one_digest_however_they_are_packed(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"x/1": b"one", "x/2": b"two"}))
    (tmp_path / "b.zip").write_bytes(zipped({"x/2": b"two", "x/1": b"one"}))
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        for name, data in (("x/1", b"one"), ("x/2", b"two")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    digests = {unpack(tmp_path / name, tmp_path / name[0]).contents for name in ("a.zip", "b.zip", "c.tar.gz")}
    assert len(digests) == 1
    (tmp_path / "d.zip").write_bytes(zipped({"x/1": b"one", "x/2": b"TWO"}))
    assert unpack(tmp_path / "d.zip", tmp_path / "d").contents not in digests


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:\\evil", "..\\evil", "a/\x07"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    path = tmp_path / "box" / "a.zip"
    path.parent.mkdir()
    path.write_bytes(zipped({"good": b"g", name: b"bad"}))
    with pytest.raises(FetchError, match="outside its folder"):
        unpack(path, path.parent / "out")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(FetchError, match="no plain file"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(FetchError, match="no plain file"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"zeros": bytes(3_000_000)}))
    with pytest.raises(FetchError, match="more than 1,000,000 bytes"):
        unpack(tmp_path / "a.zip", tmp_path / "out", most_bytes=1_000_000)


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/x", "1")
        archive.writestr("a//x", "2")
    with pytest.raises(FetchError, match="'a/x' twice"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("damage", ["text", "cut", "bit"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    data = zipped({"a": os.urandom(5000)})
    spoilt = {"text": b"hello", "cut": data[:3000], "bit": data[:500] + bytes([data[500] ^ 1]) + data[501:]}
    (tmp_path / "a.zip").write_bytes(spoilt[damage])
    with pytest.raises(FetchError, match="whole zip or tar"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_damaged_tar_is_refused(tmp_path: Path) -> None:
    for kind in ("gz", "xz", "bz2"):
        path = tmp_path / f"a.tar.{kind}"
        with tarfile.open(path, f"w:{kind}") as archive:  # type: ignore[call-overload]
            info = tarfile.TarInfo("a")
            info.size = 100_000
            archive.addfile(info, io.BytesIO(os.urandom(100_000)))
        data = path.read_bytes()
        path.write_bytes(data[:50_000] + bytes(10) + data[50_010:])
        with pytest.raises(FetchError, match="whole zip or tar"):
            unpack(path, tmp_path / "out")
        path.write_bytes(data[:50_000])
        with pytest.raises(FetchError, match="whole zip or tar"):
            unpack(path, tmp_path / "out")
