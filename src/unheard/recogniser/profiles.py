"""Voices that were enrolled, kept on this machine: a small JSON file a name.

A file holds, for every model the person was enrolled with, how many utterances were heard, the mean of their
descriptions, and marks by which a clip that is enrolled twice is known. No audio is kept; but a profile is told from
others by such numbers, so the files are for their owner only.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError, did_you_mean
from unheard.files import cannot_read, write_json

FORMAT = 1
LARGEST = 1 << 20  # bytes of a profile's file
_LARGE = 1e30  # no description has such numbers; compared, not converted: JSON's integers have no end
_LONGEST_NAME = 180  # of a file, so that every file system takes it


def default_folder() -> Path:
    """Where a user's profiles are: the place for a program's data on this system."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "unheard" / "profiles"


class ProfileStore:
    """The profiles in a folder, by name; upper and lower case are the same."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def names(self) -> list[str]:
        """Everyone in it, sorted; files that are no profiles are passed over (`broken` has them)."""
        return self._sorted_out()[0]

    def broken(self) -> list[ConfigError]:
        """What is wrong with each file of a profile that cannot be read."""
        return self._sorted_out()[1]

    def _sorted_out(self) -> tuple[list[str], list[ConfigError]]:
        found, broken = [], []
        for path in sorted(self.folder.glob("profile-*.json")):
            try:
                found.append(str(_read(path)["name"]))
            except ConfigError as problem:
                broken.append(problem)
        return sorted(found, key=str.casefold), broken

    def entries(self, name: str) -> dict[str, dict[str, Any]]:
        """What is known of a profile: digest of a model -> its name and the utterances heard.

        Raises `ConfigError` for a name that is not in it.
        """
        path = self._path(name)
        if not path.exists():
            raise self._unknown(name)
        return {digest: dict(entry) for digest, entry in _read(path)["models"].items()}

    def get(self, name: str, digest: str, width: int) -> SpeakerProfile:
        """The profile as the model with `digest` knows it, unknown where it has not heard it yet (V = `width`).

        Raises `ConfigError` for a name that is none, or a file that is broken.
        """
        path = self._path(name)
        if not path.exists():
            return SpeakerProfile.unknown(digest, width, name.strip())
        values = _read(path)
        entry = values["models"].get(digest)
        if entry is None:
            return SpeakerProfile.unknown(digest, width, values["name"])
        if len(entry["mean"]) != width:
            raise _broken(path)
        enrolled = frozenset(entry.get("enrolled", ()))
        return SpeakerProfile(
            digest, np.array(entry["mean"], np.float64), entry["utterances"], values["name"], enrolled
        )

    def keep(self, profile: SpeakerProfile, model: str = "") -> Path:
        """Write what is known of `profile`, beside what other models know of it; returns the file.

        Raises `ConfigError` for a name that is none.
        """
        path = self._path(profile.name)
        models = _read(path)["models"] if path.exists() else {}
        models[profile.digest] = {
            "model": model,
            "utterances": profile.utterances,
            "mean": profile.mean.tolist(),
            "enrolled": sorted(profile.enrolled),
        }
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(path, {"format": FORMAT, "name": profile.name.strip(), "models": models})
        path.chmod(0o600)
        return path

    def forget(self, name: str) -> None:
        """Delete everything known of a profile; raises `ConfigError` for a name that is not in the book."""
        path = self._path(name)
        if not path.exists():
            raise self._unknown(name)
        path.unlink()

    def _unknown(self, name: str) -> ConfigError:
        names = self.names()
        mend = did_you_mean(name, names) if names else "No profile is kept there yet: use --enrol with --profile."
        return ConfigError(f"no profile '{name}'", where=self.folder, mend=mend)

    def _path(self, name: str) -> Path:
        """The file of a name: percent-encoded, so that no name leads out of the folder."""
        word = name.strip()
        file = quote(word.casefold(), safe=" ", errors="replace")
        if not word or not word.isprintable() or len(file) > _LONGEST_NAME:
            raise ConfigError(f"'{name[:40]!s}' is no name for a profile", mend="Use a short word, such as anna.")
        return self.folder / f"profile-{file}.json"


def _read(path: Path) -> dict[str, Any]:
    """A profile's file, every value checked; raises `ConfigError` for anything else."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as problem:
        raise cannot_read(path, problem, ConfigError) from None
    try:
        values = json.loads(text) if len(text) <= LARGEST else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or values.get("format") != FORMAT or not _entries_fine(values.get("models")):
        raise _broken(path)
    if not isinstance(values.get("name"), str) or not values["name"].isprintable():
        raise _broken(path)
    return values


def _entries_fine(models: Any) -> bool:
    return isinstance(models, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("utterances"), int)
        and entry["utterances"] >= 0
        and isinstance(entry.get("model"), str)
        and isinstance(entry.get("mean"), list)
        and all(isinstance(value, (int, float)) and -_LARGE < value < _LARGE for value in entry["mean"])
        and isinstance(entry.get("enrolled", []), list)
        and all(isinstance(mark, str) for mark in entry.get("enrolled", []))
        for entry in models.values()
    )


def _broken(path: Path) -> ConfigError:
    return ConfigError("this is no profile, or a broken one", where=path, mend="Delete it and enrol again.")


# What is known of a profile from unlabelled speech, and how a model is told.
#
# Every utterance is described by the graph itself (V numbers, 0 for the average training profile). A profile known from
# n utterances is the mean of their descriptions, shrunk by n / (n + kappa): little is believed of a profile heard once.


@dataclass(frozen=True, slots=True, eq=False)
class SpeakerProfile:
    """The mean description (V,) of `utterances` utterances of one person, as the model with `digest` describes them."""

    digest: str
    mean: npt.NDArray[np.float64]
    utterances: int = 0
    name: str = ""
    enrolled: frozenset[str] = frozenset()
    """Marks of the utterances that were enrolled, so that none counts twice."""

    @classmethod
    def unknown(cls, digest: str, width: int, name: str = "") -> SpeakerProfile:
        """The profile of someone never heard."""
        return cls(digest, np.zeros(width), 0, name)

    def learnt(self, description: npt.NDArray[np.float32]) -> SpeakerProfile:
        """The profile after one more utterance with this description (V,)."""
        count = self.utterances + 1
        return replace(self, utterances=count, mean=self.mean + (description - self.mean) / count)

    def enrol(self, description: npt.NDArray[np.float32]) -> SpeakerProfile:
        """The profile after an utterance with this description (V,), which counts once however often it is given."""
        mark = blake2b(description.tobytes(), digest_size=8).hexdigest()
        if mark in self.enrolled:
            return self
        return replace(self.learnt(description), enrolled=self.enrolled | {mark})

    def vector(self, shrinkage: float) -> npt.NDArray[np.float32]:
        """Return the input of the graph, n / (n + κ) times the mean: float32 (V,)."""
        weight = self.utterances / (self.utterances + shrinkage) if self.utterances else 0.0
        return (weight * self.mean).astype(np.float32)
