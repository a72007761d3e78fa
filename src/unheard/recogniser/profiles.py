"""Speaker profiles: the mean description of a speaker's utterances, and the files that keep them.

The graph describes every utterance with V numbers, 0 for the average training speaker. A speaker with n utterances is
the mean of their descriptions times n / (n + κ): few utterances count little.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError, counted, did_you_mean
from unheard.files import cannot_read, locked, write_json

FORMAT = 1
LARGEST = 1 << 20  # upper limit for a profile's file, in bytes

_LARGE = 1e30
_LONGEST_NAME = 180  # of a file, so that every file system takes it


@dataclass(frozen=True, slots=True, eq=False)
class SpeakerProfile:
    """The mean description (V,) of `utterances` utterances of one speaker, by the model with `digest`.

    `enrolled` holds hashes of the enrolled utterances, so that none counts twice.
    """

    digest: str
    mean: npt.NDArray[np.float64]
    utterances: int = 0
    name: str = ""
    enrolled: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"SpeakerProfile({self.name or 'unnamed'!r}: {counted(self.utterances, 'utterance')})"

    @classmethod
    def unknown(cls, digest: str, width: int, name: str = "") -> SpeakerProfile:
        """Return the profile of a speaker without utterances."""
        return cls(digest, np.zeros(width), 0, name)

    def learnt(self, description: npt.NDArray[np.float32]) -> SpeakerProfile:
        """Return the profile after one more utterance with this description (V,)."""
        count = self.utterances + 1
        return replace(self, utterances=count, mean=self.mean + (description - self.mean) / count)

    def enrol(self, description: npt.NDArray[np.float32]) -> SpeakerProfile:
        """Return the profile after an utterance with this description (V,), unless it is enrolled already."""
        mark = blake2b(description.tobytes(), digest_size=8).hexdigest()
        return self if mark in self.enrolled else replace(self.learnt(description), enrolled=self.enrolled | {mark})

    def since(self, base: SpeakerProfile, stored: SpeakerProfile) -> SpeakerProfile:
        """Return `stored`, which another process may have changed, with what this profile has learnt since `base`."""
        count = stored.utterances + self.utterances - base.utterances
        if stored.utterances == base.utterances and np.array_equal(stored.mean, base.mean):
            return self
        if self.utterances == base.utterances:
            return stored
        mean = sum(one.utterances / count * one.mean for one in (stored, self)) - base.utterances / count * base.mean
        return replace(self, utterances=count, mean=mean, enrolled=stored.enrolled | (self.enrolled - base.enrolled))

    def vector(self, shrinkage: float) -> npt.NDArray[np.float32]:
        """Return the input of the graph, n / (n + κ) times the mean: float32 (V,)."""
        weight = self.utterances / (self.utterances + shrinkage) if self.utterances else 0.0
        return (weight * self.mean).astype(np.float32)


def default_folder() -> Path:
    """Return the folder of this user's profiles, where the system keeps program data."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "unheard" / "profiles"


class ProfileStore:
    """Profiles in a folder, a JSON file a name; upper and lower case are the same.

    A file holds a profile for every model the speaker was enrolled with. It contains no audio, but a speaker can be
    recognised by such numbers, so only its owner may read it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def names(self) -> list[str]:
        """Return all names, sorted; files that cannot be read are left out (see `broken`)."""
        return sorted((one["name"] for one in self._listed() if isinstance(one, dict)), key=str.casefold)

    def broken(self) -> list[ConfigError]:
        """Return an error for each profile file that cannot be read."""
        return [one for one in self._listed() if isinstance(one, ConfigError)]

    def _listed(self) -> Iterator[dict[str, Any] | ConfigError]:
        for path in sorted(self.folder.glob("profile-*.json")):
            try:
                yield _read(path)
            except ConfigError as problem:
                yield problem

    def entries(self, name: str) -> dict[str, dict[str, Any]]:
        """Return what is stored for a name: digest of a model -> its name and the number of utterances.

        Raises `ConfigError` for an unknown name.
        """
        return dict(_read(self._existing(name))["models"])

    def get(self, name: str, digest: str, width: int) -> SpeakerProfile:
        """Return the profile for the model with `digest` (V = `width`), an empty one where there is none.

        Raises `ConfigError` for an invalid name or a broken file.
        """
        path = self._path(name)
        values: dict[str, Any] = _read(path) if path.exists() else {"name": name.strip(), "models": {}}
        entry = values["models"].get(digest)
        if entry is None:
            return SpeakerProfile.unknown(digest, width, values["name"])
        if len(entry["mean"]) != width:
            raise _broken(path)
        mean, marks = np.array(entry["mean"], np.float64), frozenset(entry["enrolled"])
        return SpeakerProfile(digest, mean, entry["utterances"], values["name"], marks)

    def keep(self, profile: SpeakerProfile, model: str = "", *, base: SpeakerProfile | None = None) -> Path:
        """Write `profile` beside those for other models; returns the file.

        With the `base` that it has grown from, what other processes have stored since is kept.
        Raises `ConfigError` for an invalid name.
        """
        path = self._path(profile.name)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.folder, "writing a profile", ConfigError, patience=30):
            if base is not None:
                profile = profile.since(base, self.get(profile.name, profile.digest, len(profile.mean)))
            models = _read(path)["models"] if path.exists() else {}
            entry = {"model": model, "utterances": profile.utterances, "mean": profile.mean.tolist()}
            models[profile.digest] = entry | {"enrolled": sorted(profile.enrolled)}
            write_json(path, {"format": FORMAT, "name": profile.name.strip(), "models": models})
            path.chmod(0o600)
        return path

    def forget(self, name: str) -> None:
        """Delete a profile; raises `ConfigError` for an unknown name."""
        path = self._existing(name)
        with locked(self.folder, "writing a profile", ConfigError, patience=30):
            path.unlink(missing_ok=True)

    def _existing(self, name: str) -> Path:
        path = self._path(name)
        if not path.exists():
            names = self.names()
            mend = did_you_mean(name, names) if names else "None is stored there yet: use --enrol with --profile."
            raise ConfigError(f"no speaker profile '{name}'", where=self.folder, mend=mend)
        return path

    def _path(self, name: str) -> Path:
        """Percent-encode the name, so that no name leads out of the folder."""
        word = name.strip()
        file = quote(word.casefold(), safe=" ", errors="replace")
        if not word or not word.isprintable() or len(file) > _LONGEST_NAME:
            raise ConfigError(f"'{name[:40]!s}' is not a valid profile name", mend="Use a short word, such as anna.")
        return self.folder / f"profile-{file}.json"


def _read(path: Path) -> dict[str, Any]:
    """Read a profile's file and check every value; raises `ConfigError` for anything else."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        values: dict[str, Any] = json.loads(text) if len(text) <= LARGEST else {}
        models = values["models"].values()
        fine = values["format"] == FORMAT and values["name"].isprintable() and all(map(_is_fine, models))
    except OSError as problem:
        raise cannot_read(path, problem, ConfigError) from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        fine = False
    if not fine:
        raise _broken(path)
    return values


def _is_fine(entry: Any) -> bool:
    """Whether an entry has values of the right types in range; raises `KeyError` or `TypeError` for some that are not.

    Integers of JSON have no upper limit, so they are compared rather than converted.
    """
    return (
        type(entry["utterances"]) is int
        and entry["utterances"] >= 0
        and isinstance(entry["model"], str)
        and all(-_LARGE < value < _LARGE for value in entry["mean"])
        and all(isinstance(mark, str) for mark in entry["enrolled"])
    )


def _broken(path: Path) -> ConfigError:
    mend = "Delete it and enrol the speaker again."
    return ConfigError("this is not a speaker profile, or a broken one", where=path, mend=mend)
