"""A voice as text that a client keeps and sends back, since the server keeps nothing."""

from __future__ import annotations

import base64
import binascii
import struct

import numpy as np

from unheard.recogniser.profiles import SpeakerProfile
from unheard.server.limits import Refusal

_HEAD = struct.Struct("<32sII")
"""Digest of the model, utterances, marks; then the marks, and the mean as little-endian doubles."""

_MOST = 1_000_000
_MARK = 8
_MARKS = 256
"""Of so many clips a token knows that they have been heard: it has to fit into a header."""


def write_token(voice: SpeakerProfile) -> str:
    """The voice as URL-safe base64."""
    mean = np.asarray(voice.mean, "<f8").tobytes()
    marks = sorted(voice.enrolled)[:_MARKS]
    head = _HEAD.pack(bytes.fromhex(voice.digest), voice.utterances, len(marks))
    return base64.urlsafe_b64encode(head + bytes.fromhex("".join(marks)) + mean).decode()


def read_token(token: str, digest: str, width: int) -> SpeakerProfile:
    """The voice in a token, (V,) with V = `width`, for the model with this digest.

    Raises `Refusal` 422 for a token that is damaged or was made by another model.
    """
    try:
        content = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        made_by, utterances, count = _HEAD.unpack_from(content)
        begin, end = _HEAD.size, _HEAD.size + count * _MARK
        marks = [content[at : at + _MARK].hex() for at in range(begin, min(end, len(content)), _MARK)]
        mean = np.frombuffer(content, "<f8", offset=end).astype(np.float64)
    except (UnicodeEncodeError, binascii.Error, struct.error, ValueError):
        raise _unusable("is damaged") from None
    if utterances > _MOST:
        raise _unusable("is damaged")
    if made_by.hex() != digest:
        raise _unusable("was learnt by another model")
    if len(mean) != width or not np.isfinite(mean).all() or np.abs(mean).max(initial=0) > 1e6:
        raise _unusable("is damaged")
    return SpeakerProfile(digest, mean, utterances, enrolled=frozenset(marks))


def _unusable(why: str) -> Refusal:
    return Refusal(422, f"the voice {why}", "Have it learnt again, and send the token as it was given.")
