"""Seeds that depend on what they are for, and on nothing else."""

from __future__ import annotations

from hashlib import blake2b


def derive(*parts: object) -> int:
    """A 63-bit seed from `parts`: the same on every machine, unrelated for different parts."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1
