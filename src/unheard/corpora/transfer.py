"""One file over HTTP: resumed where it stopped, checked before it counts, in place all at once.

address -> FILE.part (and FILE.part.json: what it is a part of) -> checked -> FILE
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from unheard import __version__
from unheard.corpora.part import Part, Received, unwritable
from unheard.errors import FetchError

CHUNK = 1 << 18
"""Bytes read at a time: 256 KiB."""

TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as dead."""

ATTEMPTS = 5
"""Attempts in a row that may bring nothing new before giving up."""

WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second attempt, doubled before each further one up to the longest."""

_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers that may be different in a while."""

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes so far and the bytes in all (None: the server does not say)."""


class _Lost(Exception):
    """The connection could not be made, or closed before all bytes had come."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Restart(Exception):
    """The part does not belong to what the server has now."""


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
    part = Part(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(target.parent, error) from error
    failures, furthest, restarts = 0, part.size, 0
    while True:
        resumed = part.size > 0
        try:
            _attempt(url, part, progress, timeout)
        except _Restart:
            part.discard()
            restarts += 1
            if restarts >= attempts:
                raise FetchError(
                    "the server sends another file at every attempt", where=url, mend="Try again later."
                ) from None
        except _Lost as lost:
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= attempts:
                raise FetchError(
                    f"the download broke off {failures} times in a row ({lost})",
                    where=url,
                    mend=f"{part.size:,} bytes are kept; run the same command again to go on from there.",
                ) from lost
            time.sleep(min(LONGEST_WAIT, max(lost.wait, wait * 2 ** (failures - 1))))
        else:
            received, found = part.digest(checksum)
            if found == (checksum or "").lower():
                part.finish()
                return received
            wrong = _wrong(url, part, found, checksum)
            part.discard()
            if not resumed:
                raise wrong
            # What an earlier call left may itself have been wrong: once more, from the start.


def _attempt(url: str, part: Part, progress: Progress | None, timeout: float) -> None:
    """Add to `part` what is missing of `url`; returns when all is there."""
    validator = part.validator(url)
    have = part.size if validator else 0
    headers = {"User-Agent": f"unheard/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        response = _open(url, headers, timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                # Nothing lies after `have`: the part is whole, or the file has become shorter.
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return
                raise _Restart from None
            if error.code in _PASSING:
                after = error.headers.get("Retry-After", "")
                raise _Lost(f"HTTP {error.code}", float(after) if after.isdigit() else 0.0) from error
            raise _refused(url, error.code) from error
    except (OSError, HTTPException) as error:
        raise _Lost(_reason(error)) from error
    with response:
        if response.status == 206:
            start, total = _content_range(response)
            if start != have:
                raise _Restart
        else:
            have = 0
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            part.begin(url, _validator(response))
        part.require_room((total or 0) - have)
        try:
            with part.path.open("ab" if have else "wb") as file:
                while block := _read(response):
                    file.write(block)
                    have += len(block)
                    if progress:
                        progress(have, total)
        except OSError as error:
            raise unwritable(part.path, error) from error
    if total is not None and have < total:
        raise _Lost(f"{have:,} of {total:,} bytes came")
    if total is not None and have > total:
        raise _Restart


class _SaferRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted address to one that is not."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("https", urlsplit(req.full_url).scheme):
            raise FetchError(
                "the server redirects from https to an address that is not encrypted",
                where=req.full_url,
                mend="Download the file by hand from its home page.",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    try:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError
        request = urllib.request.Request(url, headers=headers)
    except ValueError:
        raise FetchError(f"'{url}' is not an address on the web", mend="Give one that begins with https://.") from None
    opener = urllib.request.build_opener(_SaferRedirects)
    response: HTTPResponse = opener.open(request, timeout=timeout)
    return response


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise _Lost(_reason(error)) from error


def _validator(response: HTTPResponse) -> str:
    """What If-Range may carry: a strong ETag, else Last-Modified, else nothing (RFC 9110, 13.1.5)."""
    etag = str(response.headers.get("ETag", ""))
    if etag and not etag.startswith("W/"):
        return etag
    return str(response.headers.get("Last-Modified", ""))


def _content_range(response: HTTPResponse) -> tuple[int, int | None]:
    """First byte and size of the whole from `Content-Range: bytes 100-199/200`."""
    unit, _, rest = str(response.headers.get("Content-Range", "")).partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        raise _Restart
    return int(first), int(total) if total.isdigit() else None


def _wrong(url: str, part: Part, found: str, checksum: str | None) -> FetchError:
    with part.path.open("rb") as file:
        page = file.read(60).lstrip()[:1] == b"<"
    return FetchError(
        f"the {part.size:,} bytes that came are not the expected file (they have {found}, it has {checksum}) "
        "and were removed",
        where=url,
        mend="What came is a web page: download the file by hand from the corpus's home page."
        if page
        else "Try again; if it stays so, the file at this address has changed.",
    )


def _refused(url: str, code: int) -> FetchError:
    why = {401: "wants a login", 403: "refuses access", 404: "has no such file", 410: "has removed the file"}
    return FetchError(
        f"the server {why.get(code, 'answers with an error')} (HTTP {code})",
        where=url,
        mend="Look for its new address on the corpus's home page.",
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error) or type(error).__name__
