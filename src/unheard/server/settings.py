"""What a server allows: where it listens, whom it answers, how much it takes at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address

from unheard.errors import ConfigError


@dataclass(frozen=True)
class ServerSettings:
    """Limits of a server; the defaults suit one person on one machine.

    `megabytes` and `seconds` belong together: fifteen minutes at 16 kHz and 16 bits are 29 MB. Raises `ConfigError`
    for values that no server can work with.
    """

    host: str = "127.0.0.1"
    """Address to listen on; anything but a loopback address opens the server to others."""
    port: int = 8000
    """0 takes a free one."""
    names: tuple[str, ...] = ()
    """Host names it answers to beside `localhost`; addresses need no name."""
    megabytes: float = 32.0
    """Largest upload."""
    seconds: float = 900.0
    """Longest recording, decoded."""
    timeout: float = 30.0
    """Seconds of work allowed for a short recording; a long one gets a tenth of its duration in addition."""
    concurrency: int = max(1, min(4, os.cpu_count() or 1))
    """Recordings scored at once."""
    waiting: int = 64
    """Recordings that may wait for their turn."""
    max_wait: float = 60.0
    """Seconds a recording may be expected to wait; one that would wait longer is refused with 429."""
    upload_megabytes: float = 256.0
    """Bytes held by all uploads, in progress, waiting and being scored, in millions."""
    min_rate: float = 4096.0
    """Bytes a second below which an upload is given up."""
    header_timeout: float = 10.0
    """Seconds for the head of a request to arrive."""
    grace: float = 20.0
    """Seconds that running work gets to finish when the server stops."""
    token: str = ""
    """Bearer token that requests must carry; empty: none."""
    cors: tuple[str, ...] = ()
    """Origins of other sites whose pages may use the server."""
    root_path: str = ""
    """Path under which a proxy serves it."""
    workers: int = 1
    """Processes that answer, forked after the model has been loaded."""
    access_log: bool = False
    """Write a JSON line to standard error for every request."""

    def __post_init__(self) -> None:
        for name in ("megabytes", "seconds", "timeout", "max_wait", "upload_megabytes", "min_rate", "header_timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}", mend="Give a number above 0.")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}", mend="Give a number from 0 (any free one) to 65535.")
        if self.concurrency < 1 or self.waiting < 0 or self.workers < 1 or not 0 <= self.grace < float("inf"):
            raise ConfigError(
                f"concurrency {self.concurrency}, waiting {self.waiting}, workers {self.workers}, grace {self.grace}",
                mend="Give concurrency and workers of at least 1, waiting and grace of at least 0.",
            )
        for origin in self.cors:
            if not origin.startswith(("http://", "https://")) or origin.rstrip("/").count("/") != 2:
                raise ConfigError(f"'{origin}' is not an origin", mend="Write --cors https://example.org")

    @property
    def bytes(self) -> int:
        """Largest upload, in bytes."""
        return round(self.megabytes * 1_000_000)

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"
