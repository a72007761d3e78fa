"""One file over HTTP: resumed where it stopped, checked before it counts, in place all at once.

address -> FILE.part (+ FILE.part.json: what it is a part of) -> checked -> FILE
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from unheard import __version__
from unheard.errors import FetchError

CHUNK = 1 << 18
"""Bytes read at a time: 256 KiB."""

TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as dead."""

ATTEMPTS = 5
"""Attempts in a row that may bring nothing new before giving up."""

WAIT = 1.0
"""Seconds before the second attempt; doubled before each further one, `LONGEST_WAIT` at most."""

LONGEST_WAIT = 60.0

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes so far and the bytes in all (None: the server does not say)."""


@dataclass(frozen=True, slots=True)
class Received:
    """A file that has arrived: its size in bytes and the SHA-256 of its bytes."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Part:
    """What a `.part` file is a part of; without `validator` it cannot be resumed safely."""

    url: str
    validator: str = ""


class _Restart(Exception):
    """The `.part` file does not belong to what the server has now."""


def download(
    url: str,
    target: Path,
    *,
    checksum: str | None = None,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
    attempts: int = ATTEMPTS,
    wait: float = WAIT,
) -> Received:
    """Bring `url` to `target`, going on where an earlier call stopped; nothing is there until all is.

    `checksum` is `md5:<hex>` or `sha256:<hex>`; a file with another one is removed. A part is continued
    only when the server confirms by ETag or Last-Modified (If-Range) that the file is still the same.
    Raises `FetchError` for an address that does not answer, a full disk, a short or a wrong file.
    """
    part = target.with_name(target.name + ".part")
    failures, furthest, restarted = 0, _size(part), False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(target.parent, error) from error
    while True:
        resumed = _size(part) > 0
        try:
            _attempt(url, part, progress, timeout)
        except _Restart:
            _discard(part)
            if restarted:
                raise FetchError(
                    "the server changes its mind about the file at every attempt",
                    where=url,
                    mend="Try again later, or give another address of the same file with --url.",
                ) from None
            restarted = True
            continue
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (408, 425, 429, 500, 502, 503, 504):
                raise _refused(url, error) from error
            trouble: Exception = error
            delay = _retry_after(error)
        except _Lost as error:
            trouble, delay = error, 0.0
        else:
            received, found = _digest(part, checksum)
            if found == (checksum or "").lower():
                try:
                    os.replace(part, target)
                except OSError as error:
                    raise _unwritable(target, error) from error
                _discard(part)
                return received
            if not resumed:
                raise _wrong(url, part, found, checksum)
            # A part left by an earlier call may itself be what is wrong: once more from the start.
            _discard(part)
            continue
        failures = 1 if _size(part) > furthest else failures + 1
        furthest = max(furthest, _size(part))
        if failures >= attempts:
            raise FetchError(
                f"the download broke off {failures} times in a row ({_reason(trouble)})",
                where=url,
                mend=f"{_size(part):,} bytes are kept; run the same command again to go on from there.",
            ) from trouble
        time.sleep(min(LONGEST_WAIT, max(delay, wait * 2 ** (failures - 1))))


class _Lost(Exception):
    """The connection could not be made, or closed before all bytes had come."""


class _SaferRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted address to one that is not."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise FetchError(
                "the server redirects from https to an unencrypted address",
                where=req.full_url,
                mend="Download the file by hand from its home page.",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(
            f"'{url}' is not an http or https address", mend="Give one that begins with https://."
        )
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(_SaferRedirects)
    response: HTTPResponse = opener.open(request, timeout=timeout)
    return response


def _attempt(url: str, part: Path, progress: Progress | None, timeout: float) -> None:
    """Add to `part` what is missing of `url`; returns when all is there."""
    known = _known(part)
    have = _size(part)
    if have and (known is None or known.url != url or not known.validator):
        _discard(part)
        have = 0
    headers = {"User-Agent": f"unheard/{__version__}", "Accept-Encoding": "identity"}
    if have and known is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.validator}
    try:
        response = _open(url, headers, timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            # Nothing after `have`: either the part is whole already or the file has become shorter.
            total = error.headers.get("Content-Range", "").rpartition("/")[2]
            error.close()
            if total == str(have):
                return
            raise _Restart from None
        raise
    except (OSError, HTTPException) as error:
        raise _Lost(_reason(error)) from error
    with response:
        if response.status == 206:
            start, total = _content_range(response)
            if start != have:
                raise _Restart
            mode = "ab"
        else:
            have, mode = 0, "wb"
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            _remember(part, _Part(url, _validator(response)))
        _room(part, (total or 0) - have)
        try:
            with part.open(mode) as file:
                while block := _read(response):
                    file.write(block)
                    have += len(block)
                    if progress:
                        progress(have, total)
        except OSError as error:
            raise _unwritable(part, error) from error
    if total is not None and have < total:
        raise _Lost(f"{have:,} of {total:,} bytes came")
    if total is not None and have > total:
        raise _Restart


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise _Lost(_reason(error)) from error


def _validator(response: HTTPResponse) -> str:
    """What If-Range may carry: a strong ETag, else Last-Modified, else nothing (RFC 9110, 13.1.5)."""
    etag: str = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return str(response.headers.get("Last-Modified", ""))


def _content_range(response: HTTPResponse) -> tuple[int, int | None]:
    """First byte and size of the whole from `Content-Range: bytes 100-199/200`."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        raise _Restart
    return int(first), int(total) if total.isdigit() else None


def _digest(part: Path, checksum: str | None) -> tuple[Received, str]:
    """Size and SHA-256 of the file, and its digest in the form of `checksum` ("" where there is none)."""
    kind = checksum.partition(":")[0].lower() if checksum else "sha256"
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", kind}}
    with part.open("rb") as file:
        while block := file.read(CHUNK):
            for digest in digests.values():
                digest.update(block)
    received = Received(part.stat().st_size, digests["sha256"].hexdigest())
    return received, f"{kind}:{digests[kind].hexdigest()}" if checksum else ""


def _wrong(url: str, part: Path, found: str, checksum: str | None) -> FetchError:
    with part.open("rb") as file:
        page = file.read(60).lstrip()[:1] == b"<"
    size = _size(part)
    _discard(part)
    return FetchError(
        f"the {size:,} bytes that came are not the published file ({found}, published is {checksum}) "
        "and were removed",
        where=url,
        mend="What came is a web page; download the file by hand from the corpus's home page."
        if page
        else "Try again; if it stays so, the file at this address has changed.",
    )


def _refused(url: str, error: urllib.error.HTTPError) -> FetchError:
    why = {401: "wants a login", 403: "refuses access", 404: "has no such file", 410: "has removed the file"}
    return FetchError(
        f"the server {why.get(error.code, 'answers with an error')} (HTTP {error.code})",
        where=url,
        mend="Look on the corpus's home page for its new address, and give it with --url.",
    )


def _unwritable(path: Path, error: OSError) -> FetchError:
    return FetchError(
        f"cannot write here ({error.strerror or error})",
        where=path,
        mend="Choose a folder on a disk with room that you may write to; what has come so far is kept.",
    )


def _room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise FetchError(
            f"the download needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free",
            where=part.parent,
            mend="Make room, or choose a folder on another disk.",
        )


def _retry_after(error: urllib.error.HTTPError) -> float:
    seconds = error.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _side(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _known(part: Path) -> _Part | None:
    try:
        return _Part(**json.loads(_side(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _remember(part: Path, what: _Part) -> None:
    try:
        part.unlink(missing_ok=True)
        _side(part).write_text(json.dumps(asdict(what)), encoding="utf-8")
    except OSError as error:
        raise _unwritable(part, error) from error


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _side(part).unlink(missing_ok=True)
