"""What a server allows: where it listens, whom it answers, how much it takes at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address

from unheard.errors import ConfigError


def loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _cores() -> int:
    return max(1, min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits of a server; the defaults suit one person on one machine.

    The two sizes belong together: fifteen minutes at 16 kHz and 16 bits are 29 MB. Raises `ConfigError` for
    values that no server can work with.
    """

    host: str = "127.0.0.1"
    """Address to listen on; anything but a loopback address opens the server to others."""
    port: int = 8000
    """0 takes a free one."""
    names: tuple[str, ...] = ()
    """Host names it answers to beside `localhost`; addresses need no name."""
    megabytes: float = 32.0
    """The largest upload."""
    seconds: float = 900.0
    """The longest recording, decoded."""
    timeout: float = 30.0
    """Seconds for an upload to arrive, and seconds for an answer to be found."""
    concurrency: int = _cores()
    """Recordings worked on at once."""
    waiting: int = 8
    """Recordings that may wait for their turn; one more is answered 429."""

    def __post_init__(self) -> None:
        for name in ("megabytes", "seconds", "timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}", mend="Give a number above 0.")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}", mend="Give a number from 0 (any free one) to 65535.")
        if self.concurrency < 1 or self.waiting < 0:
            raise ConfigError(
                f"{self.concurrency} at once and {self.waiting} waiting answer nobody",
                mend="Give concurrency of at least 1 and waiting of at least 0.",
            )

    @property
    def bytes(self) -> int:
        """The largest upload, in bytes."""
        return round(self.megabytes * 1_000_000)

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return loopback(self.host)
