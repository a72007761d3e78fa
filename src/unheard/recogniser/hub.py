"""Models of other people: `hf:OWNER/NAME` on the Hugging Face hub to a folder on this machine, a folder to the hub.

A graph from a stranger is no program, but it can loop and take all memory: `try_out` lets a child process find out.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, ModelError, needs, printable

PREFIX = "hf:"
FILES = ("model.onnx", "model.int8.onnx", "README.md", "config.json", "SHA256SUMS", "encoder/*")
"""Files that are read from a repository and written to it."""

TRIAL_SECONDS = 60  # time that a model has to load and to answer one short clip
TRIAL_BYTES = 4 << 30  # address space of the process in which it does, in addition to four times that of its files

_TRIAL = """
import sys
sys.path[:] = sys.argv[3:]  # python -c would look in the current folder first, which may be the model's
import json
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
except ImportError:  # Windows: the time is bounded, the memory is not
    pass
import unheard
from unheard.samples import samples
try:
    recogniser = unheard.load(sys.argv[1])
except unheard.UnheardError as problem:
    print(json.dumps([problem.what, problem.where, problem.mend]))
    sys.exit(1)
recogniser.predict(samples()[0].path)
"""

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def download(model: str) -> Path:
    """Return the folder of `hf:OWNER/NAME` in the hub's cache, with what is new there; `@REVISION` pins a version.

    Without network the cache is used as it is. Raises `ModelError` where there is no such model or no network,
    `MissingExtra` without the package huggingface_hub.
    """
    name, _, revision = model.removeprefix(PREFIX).partition("@")
    hub = check(name)
    with _refused("gives no such model", model, "for a private model: hf auth login."):
        return Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=FILES))


def try_out(model: str | Path) -> None:
    """Let a child process with bounded memory and time answer one clip with a model file or folder.

    Raises `ModelError` where it does not.
    """
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    sizes = (
        file.stat().st_size for name in ("*.onnx", "encoder/*.onnx") for file in folder.glob(name) if file.is_file()
    )
    most = TRIAL_BYTES + 4 * min(sum(sizes), 2 << 30)  # of larger ones none is read
    try:
        command = [sys.executable, "-c", _TRIAL, str(model), str(most), *sys.path]
        subprocess.run(command, check=True, capture_output=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        why = f"it took more than {TRIAL_SECONDS} s"
    except subprocess.CalledProcessError as failed:
        if failed.stdout:  # it could not be loaded
            what, where, mend = json.loads(failed.stdout)
            raise ModelError(what, where=where, mend=mend) from None
        lines = failed.stderr.decode(errors="replace").split("\n")
        why = next((line.strip() for line in reversed(lines) if line.strip()), f"exit {failed.returncode}")[:300]
    else:
        return
    raise ModelError(f"the model failed on a short clip ({printable(why)})", where=model, mend="Do not use it.")


def push(folder: str | Path, name: str) -> str:
    """Upload a model folder to the repository OWNER/NAME, which is created private; returns its address.

    Raises `ModelError` where the hub refuses it, `MissingExtra` without the package huggingface_hub.
    """
    api = check(name).HfApi
    with _refused("did not take the model", name, "log in with: hf auth login."):
        address = api().create_repo(name, private=True, exist_ok=True)
        given = {"repo_id": name, "folder_path": str(folder), "commit_message": "unheard export"}
        api().upload_folder(**given, allow_patterns=list(FILES))
        return str(address)


def check(name: str) -> Any:
    """Return the package; raises `ConfigError` for a name that is no OWNER/NAME, `MissingExtra` without it."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise ConfigError(f"'{name}' is not the name of a repository", mend="Write it as OWNER/NAME.")
    with needs("huggingface_hub", "hub"):
        import huggingface_hub
    return huggingface_hub


@contextmanager
def _refused(what: str, where: str, mend: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:  # the hub's, the network's and the disk's errors share no base
        words = f"{type(problem).__name__}: {' '.join(str(problem).split())[:160]}"
        mend = f"Check the name and the network; {mend}"
        raise ModelError(f"the Hugging Face hub {what} ({words})", where=where, mend=mend) from None
