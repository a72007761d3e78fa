"""Model folders on the Hugging Face hub: `hf:OWNER/NAME` to a folder on this machine, and a folder to the hub."""

from __future__ import annotations

import re
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
    try:
        return Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=FILES))
    except Exception as problem:  # the hub's, the network's and the disk's errors share no base
        raise ModelError(
            f"the Hugging Face hub gives no such model ({_words(problem)})",
            where=model,
            mend="Check the name and the network; for a private model: hf auth login.",
        ) from None


def push(folder: str | Path, name: str) -> str:
    """Upload a model folder to the repository OWNER/NAME, which is created private; returns its address.

    Raises `ModelError` where the hub refuses it, `MissingExtra` without the package huggingface_hub.
    """
    hub = _hub(name)
    try:
        api = hub.HfApi()
        address = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=str(folder), allow_patterns=list(FILES), commit_message="unheard export"
        )
    except Exception as problem:
        raise ModelError(
            f"the Hugging Face hub did not take the model ({_words(problem)})",
            where=name,
            mend="Check the name and the network, and log in with: hf auth login.",
        ) from None
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


def _words(problem: Exception) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:160]}"
