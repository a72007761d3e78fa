"""Frames that this package does not compute: functions of plug-ins, and folders of `.npy` files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard import plugins
from unheard.errors import AudioError, ConfigError, did_you_mean
from unheard.features.kaldi import Floats
from unheard.features.settings import KINDS, FeatureSettings

LARGEST = 1 << 30
"""Upper limit for an array file, in bytes."""


def resolve_foreign(settings: FeatureSettings) -> FeatureSettings:
    """Fill in the width of a frame, and the hash of a plug-in's source.

    Raises `ConfigError` for an unknown plug-in, one that returns no frames, and a folder without arrays.
    """
    if settings.kind == "npy":
        first = next(iter(sorted(Path(settings.folder).rglob("*.npy"))), None)
        if first is None:
            raise ConfigError("no .npy file in this folder", where=settings.folder, mend="Write one an utterance.")
        try:
            return replace(settings, width=_opened(first).shape[1])
        except AudioError as error:
            raise ConfigError(error.what, where=error.where, mend=error.mend) from None
    plugin = _plugin(settings.kind)
    noise = np.random.default_rng(0).normal(0, 0.1, settings.sample_rate).astype(np.float32)
    try:
        return replace(settings, width=_checked(plugin.thing(noise), settings.kind).shape[1], code=plugin.digest)
    except Exception as error:  # whatever a stranger's function raises
        what = f"the function '{settings.kind}' fails on a second of noise ({type(error).__name__}: {error})"
        raise ConfigError(what, mend="It takes samples (N,) and returns frames (T, F).") from error


def frames_of(samples: npt.NDArray[Any], settings: FeatureSettings) -> Floats:
    """Apply the function of a plug-in to samples (N,): (T, F). Raises `AudioError` for what is no frames (T, F)."""
    if settings.kind == "npy":
        raise ConfigError("features of kind npy come from files, not from audio", mend="Choose another kind.")
    settings = settings if settings.resolved else resolve_foreign(settings)
    plugin = _plugin(settings.kind)
    if plugin.digest != settings.code:
        raise ConfigError(
            f"the function '{settings.kind}' has changed since these features were made", mend="Use another store."
        )
    return _checked(plugin.thing(samples), settings.kind, settings.width)


def frames_in(path: str | Path, width: int) -> Floats:
    """Read the array (T, `width`) of one utterance; raises `AudioError` where there is none or another one."""
    return _checked(_opened(Path(path)), str(path), width)


def _plugin(name: str) -> plugins.Plugin:
    plugin = plugins.find("feature", name)
    if plugin is None:
        known = (*KINDS, *plugins.names("feature"))
        raise ConfigError(f"unknown kind of features '{name}'", mend=did_you_mean(name, known))
    return plugin


def _opened(path: Path) -> npt.NDArray[Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise AudioError(f"an array file must not exceed {LARGEST >> 20} MiB", where=path)
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise AudioError("no such file", where=path) from None
    except (OSError, ValueError, EOFError) as error:
        raise AudioError(f"this is no .npy file ({error})", where=path) from None
    return _checked(array, str(path))


def _checked(frames: Any, where: str, width: int = 0) -> Floats:
    fine = isinstance(frames, np.ndarray) and frames.ndim == 2 and frames.dtype.kind in "fiu" and frames.size
    if not fine or (width and frames.shape[1] != width):
        shape = frames.shape if isinstance(frames, np.ndarray) else type(frames).__name__
        raise AudioError(f"frames (T, {width or 'F'}) of numbers are needed, not {shape}", where=where)
    if not np.isfinite(frames).all():
        raise AudioError("the frames are not all numbers (NaN or infinite)", where=where)
    return np.ascontiguousarray(frames, np.float32)
