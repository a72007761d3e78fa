"""Paths in a file of settings: they are relative to the folder the file is in, from wherever it is read.

So a run's `config.yaml` finds its corpus after `cd`, and after run and corpus have been moved together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_PATHS = ("manifest", "store", "weights_from", "out")


def read_in(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file in `folder`, their paths as the present folder sees them."""

    def seen(path: str) -> str:
        joined = str(folder / path)
        short = os.path.normpath(joined)
        return short if os.path.realpath(short) == os.path.realpath(joined) else joined  # `..` of a link is elsewhere

    return _changed(values, seen)


def written_in(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a file in `folder`: relative paths become relative to it, absolute ones stay."""

    def relative(path: str) -> str:
        if Path(path).is_absolute():
            return path
        here = str(Path(path).absolute())
        try:
            return os.path.relpath(here, os.path.realpath(folder))
        except ValueError:  # another drive
            return here

    return _changed(values, relative)


def same_place(one: str, other: str) -> bool:
    """Whether two paths name the same; of `FILE:PART` the part too."""
    return one == other or (bool(one) and bool(other) and os.path.realpath(one) == os.path.realpath(other))


def _changed(values: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    changed = {str(name).replace("-", "_"): value for name, value in values.items()}

    def put(name: str, words: Callable[[str], str]) -> None:
        if isinstance(changed.get(name), (str, Path)) and str(changed[name]):
            changed[name] = words(str(changed[name]))

    def of_part(place: str) -> str:
        file, mark, part = place.rpartition(":")
        return change(file) + mark + part if mark else change(place)

    for name in _PATHS:
        put(name, change)
    put("root", lambda roots: ",".join(change(root.strip()) for root in roots.split(",")))
    put("speakers", of_part)
    features = changed.get("features")
    if isinstance(features, Mapping) and isinstance(features.get("encoder"), (str, Path)) and features["encoder"]:
        changed["features"] = {**features, "encoder": change(str(features["encoder"]))}
    return changed
