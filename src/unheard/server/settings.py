"""The settings of a server: where it listens, whom it answers, how much it takes at once."""

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

from cyclopts import Parameter

from unheard.errors import ConfigError

Repeated = Annotated[tuple[str, ...], Parameter(negative="")]
Internal = Annotated[float, Parameter(parse=False)]


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server, which are the flags of `unheard serve`; the defaults suit one person on one machine.

    `max_megabytes` and `max_seconds` belong together: fifteen minutes at 16 kHz and 16 bits are 29 MB. Raises
    `ConfigError` for values that no server can work with.
    """

    host: str = "127.0.0.1"
    """Address to listen on; others can reach the server on any address but a loopback one."""
    port: int = 8000
    """Port to listen on (0: any free one)."""
    name: Repeated = ()
    """Additional host name of the server, such as that of a proxy; may be repeated."""
    max_megabytes: float = 32.0
    """Largest upload."""
    max_seconds: float = 900.0
    """Longest recording, decoded."""
    timeout: float = 30.0
    """Seconds to score a short recording; a long one gets a tenth of its duration in addition."""
    concurrency: int = 0
    """Recordings scored at once (0: one per core, at most 4)."""
    waiting: int = 64
    """Recordings that may wait; further ones are refused with 429."""
    max_wait: float = 60.0
    """Longest expected wait in seconds; longer ones are refused with 429."""
    upload_megabytes: Internal = 256.0
    """Bytes held by all uploads, in progress, waiting and being scored, in millions."""
    min_rate: Internal = 4096.0
    """Bytes a second below which an upload is given up."""
    header_timeout: Internal = 10.0
    """Seconds for the head of a request to arrive."""
    grace: float = 20.0
    """Seconds for running requests to finish after SIGTERM."""
    token: Annotated[str, Parameter(env_var="UNHEARD_TOKEN")] = ""
    """Bearer token that requests must carry."""
    cors: Repeated = ()
    """Origin of a site whose pages may use the server, such as https://example.org; may be repeated."""
    workers: int = 1
    """Processes, forked after the model is loaded."""
    root_path: str = ""
    """Path under which a proxy serves it, such as /emotions."""
    access_log: Annotated[bool, Parameter(negative="")] = False
    """Write a JSON line to standard error for every request."""

    def __post_init__(self) -> None:
        above_0 = ("max_megabytes", "max_seconds", "timeout", "max_wait", "upload_megabytes", "min_rate")
        for name in (*above_0, "header_timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}", mend="Give a number above 0.")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}", mend="Give a number from 0 (any free one) to 65535.")
        if self.concurrency < 0 or self.waiting < 0 or self.workers < 1 or not 0 <= self.grace < float("inf"):
            what = f"concurrency {self.concurrency}, waiting {self.waiting}, workers {self.workers}, grace {self.grace}"
            raise ConfigError(what, mend="Give workers of at least 1, the others of at least 0.")
        if not re.fullmatch("[!-~]*", self.token):
            raise ConfigError("the token has letters that no header carries", mend="Use ASCII without spaces.")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ConfigError(f"'{self.root_path}' is not a path", mend="Write --root-path /emotions")
        for origin in self.cors:
            if not origin.startswith(("http://", "https://")) or origin.rstrip("/").count("/") != 2:
                raise ConfigError(f"'{origin}' is not an origin", mend="Write --cors https://example.org")

    @property
    def bytes(self) -> int:
        """Largest upload, in bytes."""
        return round(self.max_megabytes * 1_000_000)

    @property
    def budget(self) -> float:
        """Bytes held by all uploads: at least those of two of the largest, decoded."""
        return max(self.upload_megabytes * 1_000_000, 2 * (self.bytes + 64_000 * self.max_seconds))

    @property
    def threads(self) -> int:
        """Recordings scored at once."""
        return self.concurrency or max(1, min(4, os.cpu_count() or 1))

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"
