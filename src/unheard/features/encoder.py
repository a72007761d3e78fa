"""Frames of a pretrained speech encoder: any folder on disk that Hugging Face transformers reads as one of waveforms.

    samples (N,) at 16 kHz -> convolutions, a frame of 25 ms every 20 ms -> transformer layers -> one of them, their
    mean (T, D), or all of them side by side (T, L·D)

The encoder is frozen. It is read from disk alone, its weights from safetensors alone: a pickle could run code.
torch and transformers are imported when the first recording is encoded.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError, FeatureError, MissingExtra
from unheard.features.settings import LEARNED, FeatureSettings

Floats = npt.NDArray[np.float32]

WEIGHTS = "model.safetensors"
_FRAME, _SHIFT = 400, 320
_AT_ONCE = 3000  # frames, a minute: attention's memory grows with the square
_UNUSED = "masked_spec_embed"  # serves pretraining alone, and is missing in some files


@dataclass(frozen=True)
class Encoder:
    """What can be known of an encoder without loading it; `digest` is over its weights and configuration."""

    digest: str
    width: int
    layers: int


def identify(folder: str | Path) -> Encoder:
    """The encoder in `folder`; raises `ConfigError` for one that is missing, of another kind, or only a pickle."""
    folder = Path(folder)
    config = _config(folder)
    files = _weights(folder)
    strides, kernels = config.get("conv_stride"), config.get("conv_kernel")
    try:
        width, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        frame = _receptive_field(kernels, strides)
    except (KeyError, TypeError, ValueError):
        frame, width, layers = (0, 0), 0, 0
    if frame != (_FRAME, _SHIFT):
        raise ConfigError(
            f"'{config.get('model_type', '')}' is no encoder of waveforms with a frame of 25 ms every 20 ms",
            where=folder,
            mend="Name the folder of a WavLM, HuBERT, wav2vec 2.0 or data2vec-audio encoder.",
        )
    described = [path for path in (folder / "config.json", _preprocessor(folder)) if path.exists()]
    state = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in (*described, *files))
    return Encoder(_digest(state), width, layers)


def resolve(settings: FeatureSettings) -> FeatureSettings:
    """Fill in what follows from the encoder's files; settings without an encoder, or resolved before, stay as they are.

    Raises `ConfigError` for an encoder that is missing or of another kind, and for a layer that it does not have.
    """
    if settings.resolved:
        return settings
    found = identify(settings.encoder)
    if settings.layer.isdigit() and int(settings.layer) > found.layers:
        raise ConfigError(
            f"the encoder has no layer '{settings.layer}'", mend=f"Choose mean, {LEARNED}, or 0 to {found.layers}."
        )
    # hidden states: the transformer's input and the output of each layer
    layers = found.layers + 1 if settings.layer == LEARNED else 0
    return replace(settings, encoder_digest=found.digest, encoder_width=found.width, encoder_layers=layers)


def encode(samples: Floats, settings: FeatureSettings) -> Floats:
    """The frames (T, D) of samples (N,) in [-1, 1] at 16 kHz, N at least 400; T = 1 + (N - 400) // 320.

    `settings.layer` is `mean`, of the transformer's input and all its layers, a number: 0 is that input, or `learned`:
    input and layers side by side, D = L · width.
    Recordings above a minute are encoded a minute at a time. The same bits on a machine, however many processes.
    Raises `MissingExtra` without transformers, `ConfigError` where the encoder is gone or another one.
    """
    model, normalise = _model(settings.encoder, settings.encoder_digest)
    import torch

    if normalise:
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    frames = 1 + (len(samples) - _FRAME) // _SHIFT
    pieces = []
    with torch.inference_mode(), _one_thread(torch):
        for first in range(0, frames, _AT_ONCE):
            last = first + _AT_ONCE
            # the rest below a frame is heard too: some encoders normalise their convolutions over all of the time
            end = (last - 1) * _SHIFT + _FRAME if last < frames else len(samples)
            piece = np.ascontiguousarray(samples[first * _SHIFT : end], np.float32)
            states = model(torch.from_numpy(piece)[None], output_hidden_states=True).hidden_states
            if settings.layer == LEARNED:
                chosen = torch.cat(states, 2)
            else:
                chosen = torch.stack(states).mean(0) if settings.layer == "mean" else states[int(settings.layer)]
            pieces.append(chosen[0].float().numpy())
    found: Floats = np.concatenate(pieces)
    width = settings.encoder_width * max(settings.encoder_layers, 1)
    if found.shape != (frames, width):
        raise FeatureError(
            f"the encoder gave {found.shape[0]} frames of {found.shape[1]} numbers, not {frames} of {width}",
            where=settings.encoder,
            mend="Use a WavLM, HuBERT, wav2vec 2.0 or data2vec-audio encoder.",
        )
    return found


def check(settings: FeatureSettings) -> None:
    """Load the encoder once, so that what is wrong with it is said before every recording fails. Raises as `encode`."""
    _load(settings.encoder, settings.encoder_digest)


@lru_cache(maxsize=1)
def _model(folder: str, digest: str) -> tuple[Any, bool]:
    return _load(folder, digest)


def _load(folder: str, digest: str) -> tuple[Any, bool]:
    """The model in evaluation mode, and whether its input is to have mean 0 and variance 1."""
    if identify(folder).digest != digest:
        raise ConfigError(
            f"this is not the encoder that the settings were made with (digest {digest})",
            where=folder,
            mend="Name that one, or leave encoder_digest out for a store of this one.",
        )
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ImportError:
        raise MissingExtra("transformers", "ssl") from None
    try:
        with _quiet(logging), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, told = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # transformers has no class of its own for a folder it cannot use
        raise ConfigError(
            f"transformers cannot load this encoder ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            where=folder,
            mend="Save it again with save_pretrained, of a version of transformers that knows it.",
        ) from error
    missing = sorted(name for name in told["missing_keys"] if not name.endswith(_UNUSED))
    if missing:  # transformers would fill them with random numbers
        raise ConfigError(
            f"{len(missing)} weights of this encoder are missing, {missing[0]} first",
            where=folder,
            mend="Download it again, all of it.",
        )
    return model.eval().float(), _normalises(Path(folder))


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """What transformers has to say of a loaded encoder is for those who train it."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Sums are the same in every worker then, and in a process that has more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _config(folder: Path) -> dict[str, Any]:
    try:
        read = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"there is no encoder here ({type(error).__name__} in config.json)",
            where=folder,
            mend="Name a folder that save_pretrained wrote or that was downloaded from the Hugging Face hub.",
        ) from None
    return read if isinstance(read, dict) else {}


def _weights(folder: Path) -> list[Path]:
    """The files of the weights, one or several parts."""
    listing = folder / f"{WEIGHTS}.index.json"
    files = [folder / WEIGHTS]
    if not files[0].exists() and listing.exists():
        try:
            names = set(json.loads(listing.read_text("utf-8"))["weight_map"].values())
            files = [listing, *(folder / name for name in sorted(names))]
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            files = [listing, folder / "its parts"]
    absent = [path.name for path in files if not path.is_file()]
    if absent:
        pickled = list(folder.glob("*.bin")) + list(folder.glob("*.pt"))
        why = f"only {pickled[0].name}, a pickle, which could run code" if pickled else f"no {absent[0]}"
        raise ConfigError(
            f"the encoder's weights are not here: there is {why}",
            where=folder,
            mend="Load it where you trust it, and save it with save_pretrained(FOLDER), which writes safetensors.",
        )
    return files


def _receptive_field(kernels: Any, strides: Any) -> tuple[int, int]:
    """Length and distance of the frames in samples."""
    kernels, strides = [int(k) for k in kernels], [int(s) for s in strides]
    reach = 1 + sum((kernel - 1) * prod(strides[:place]) for place, kernel in enumerate(kernels))
    return reach, prod(strides)


def _preprocessor(folder: Path) -> Path:
    return folder / "preprocessor_config.json"


def _normalises(folder: Path) -> bool:
    """What the encoder was trained with says its feature extractor; its class's default is yes."""
    try:
        read = json.loads(_preprocessor(folder).read_text("utf-8"))
        return bool(read.get("do_normalize", True))
    except (OSError, ValueError, AttributeError):
        return True


@lru_cache(maxsize=8)
def _digest(state: tuple[tuple[str, int, int], ...]) -> str:
    """Over names and contents; looked up again where sizes and times of change are the same."""
    digest = blake2b(digest_size=8)
    for name, size, _ in state:
        path = Path(name)
        digest.update(f"{path.name}\t{size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
