"""Model folders on the Hugging Face hub: `hf:OWNER/NAME` to a folder on this machine, and a folder to the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, MissingExtra, ModelError

PREFIX = "hf:"
FILES = ("model.onnx", "model.int8.onnx", "README.md", "config.json", "SHA256SUMS", "encoder/*")
"""What is read from a repository, and written to it."""

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def download(model: str) -> Path:
    """Return the folder of `hf:OWNER/NAME` in the hub's cache, with what is new there; `@REVISION` pins a version.

    Without network the cache is used as it is. Raises `ModelError` where there is no such model or no network,
    `MissingExtra` without the package huggingface_hub.
    """
    name, _, revision = model.removeprefix(PREFIX).partition("@")
    hub = _hub(name)
    with _refused("gives no such model", model, "for a private model: hf auth login."):
        return Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=FILES))


def push(folder: str | Path, name: str) -> str:
    """Upload a model folder to the repository OWNER/NAME, which is created private; returns its address.

    Raises `ModelError` where the hub refuses it, `MissingExtra` without the package huggingface_hub.
    """
    api = _hub(name).HfApi
    with _refused("did not take the model", name, "log in with: hf auth login."):
        address = api().create_repo(name, private=True, exist_ok=True)
        given = {"repo_id": name, "folder_path": str(folder), "commit_message": "unheard export"}
        api().upload_folder(**given, allow_patterns=list(FILES))
        return str(address)


def check(name: str) -> None:
    """Raise `ConfigError` for a name that is no OWNER/NAME, `MissingExtra` without the package."""
    _hub(name)


def _hub(name: str) -> Any:
    if not _NAME.fullmatch(name) or ".." in name:
        raise ConfigError(f"'{name}' is not the name of a repository", mend="Write it as OWNER/NAME.")
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtra("huggingface_hub", "hub") from None
    return huggingface_hub


@contextmanager
def _refused(what: str, where: str, mend: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:  # the hub's, the network's and the disk's errors share no base
        words = f"{type(problem).__name__}: {' '.join(str(problem).split())[:160]}"
        mend = f"Check the name and the network; {mend}"
        raise ModelError(f"the Hugging Face hub {what} ({words})", where=where, mend=mend) from None
