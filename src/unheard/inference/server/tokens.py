"""A voice as text that a client keeps and sends back, since the server keeps nothing."""

from __future__ import annotations

import base64
import binascii
import struct

import numpy as np

from unheard.inference.server.refusals import Refusal
from unheard.inference.voices import Voice

_HEAD = struct.Struct("<32sI")  # digest of the model, utterances; then the mean as little-endian doubles


def write_token(voice: Voice) -> str:
    """The voice as URL-safe base64."""
    mean = np.asarray(voice.mean, "<f8").tobytes()
    return base64.urlsafe_b64encode(_HEAD.pack(bytes.fromhex(voice.digest), voice.utterances) + mean).decode()


def read_token(token: str, digest: str, width: int) -> Voice:
    """The voice in a token, (V,) with V = `width`, for the model with this digest.

    Raises `Refusal` 422 for a token that is damaged or was made by another model.
    """
    try:
        content = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        made_by, utterances = _HEAD.unpack_from(content)
        mean = np.frombuffer(content, "<f8", offset=_HEAD.size).astype(np.float64)
    except (UnicodeEncodeError, binascii.Error, struct.error, ValueError):
        raise _unusable("is damaged") from None
    if made_by.hex() != digest:
        raise _unusable("was learnt by another model")
    if len(mean) != width or not np.isfinite(mean).all() or np.abs(mean).max(initial=0) > 1e6:
        raise _unusable("is damaged")
    return Voice(digest, mean, utterances)


def _unusable(why: str) -> Refusal:
    return Refusal(422, f"the voice {why}", "Have it learnt again, and send the token as it was given.")
