"""Pretrained speech encoders: a frame every 20 ms.

    samples (N,) at 16 kHz -> log-mel (2T, mels) -> convolutions and the first layers, in onnxruntime -> states (T, D)

`open_encoder` takes a folder that `unheard encoder` wrote, a Whisper folder in Hugging Face's or faster-whisper's
layout, a folder of WavLM, HuBERT, wav2vec 2.0 or data2vec-audio (through transformers, see `waveform.py`), or the id of
a repository on the Hugging Face hub. The encoder is frozen and computed only up to the requested layer.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unheard import __version__
from unheard.audio import Samples
from unheard.errors import AudioError, ConfigError, needs
from unheard.features.analysis import resolve_foreign
from unheard.features.settings import LEARNED, FeatureSettings
from unheard.features.whisper import Floats, Weights, build_graph, weight_files
from unheard.files import read_regular, write_text, write_whole
from unheard.settings import check_number

SAMPLE_RATE = 16_000
FRAME_SHIFT = 320  # samples, 20 ms: two mel frames
MODEL, LICENCE, CARD = "model.onnx", "LICENSE", "README.md"  # files written by `unheard encoder`

LARGEST = (2 << 30) - 1  # upper limit for an ONNX file, in bytes: that of protobuf

_FFT, _HOP = 400, 160  # 25 ms every 10 ms
_SILENCE = 1600  # samples: Whisper was trained on speech followed by silence
_HUB_FILES = ["config.json", "preprocessor_config.json", "README.md", "model*.safetensors", "*.index.json", "model.bin"]
_DESCRIPTION = "unheard_encoder"
_SIZES = {"width": 10_000, "layers": 100, "mels": 512, "positions": 10_000}
"""Numbers in the description of an encoder's file, with their upper limits."""
_WHISPER_LICENCE = Path(__file__).parents[1] / "models" / "starter" / "encoder" / LICENCE


class Encoder(Protocol):
    """A frozen encoder.

    `digest` identifies weights and configuration; a frame concatenates `layers` states of width `width`.
    Opening reads sizes and the digest; the weights are loaded by `load`, or by the first call of `frames`.
    """

    digest: str
    width: int
    layers: int

    def load(self) -> None:
        """Load the weights; raises `ConfigError` if they are missing or damaged."""

    def frames(self, samples: Samples) -> Floats:
        """Compute float32 states (T, layers · width) of samples (N,) at 16 kHz; raises `AudioError` for too few."""


def open_encoder(source: str | Path, layer: str = "mean") -> Encoder:
    """Open the encoder in the folder `source`, or with this id on the hub (`openai/whisper-base@REVISION`).

    `layer` is a number (0: the transformer's input), several numbers (`2,3,4`: concatenated), `mean` or `learned` (all
    concatenated). A folder of `unheard encoder` holds one choice of `layer`. Raises `ConfigError` for a source that is
    missing, damaged or unsupported and for a missing layer, and `MissingExtra` if a library is not installed.
    """
    folder = find_encoder(source)
    if (folder / MODEL).is_file():
        return OnnxEncoder(read_regular(folder / MODEL, LARGEST, ConfigError), folder, layer)
    config = read_config(folder)
    if config.get("model_type") == "whisper" or (folder / "model.bin").is_file():
        return WhisperEncoder(folder, config, layer)
    from unheard.features.waveform import WaveformEncoder

    return WaveformEncoder(folder, config, layer)


def resolve(settings: FeatureSettings) -> FeatureSettings:
    """Fill in the settings that follow from an encoder's files, a plug-in or a folder of arrays.

    Resolved settings are returned unchanged. Raises like `open_encoder` and `resolve_foreign`.
    """
    if settings.resolved:
        return settings
    if settings.foreign:
        return resolve_foreign(settings)
    encoder = open_encoder(settings.encoder, settings.layer)
    width, layers = encoder.width, encoder.layers if encoder.layers > 1 or settings.layer == LEARNED else 0
    if settings.pool != "none":  # one vector, the concatenation of the layers
        width, layers = width * max(layers, 1), 0
    return replace(settings, encoder_digest=encoder.digest, encoder_width=width, encoder_layers=layers)


@lru_cache(maxsize=1)
def encoder_of(source: str, layer: str, digest: str) -> Encoder:
    """Open and load an encoder, once per process; raises `ConfigError` if its digest is not `digest`."""
    encoder = open_encoder(source, layer)
    if encoder.digest != digest:
        what = f"this is not the encoder that the settings were made with (digest {digest})"
        mend = "Name the original encoder, or leave out encoder_digest to build a store with this one."
        raise ConfigError(what, where=source, mend=mend)
    encoder.load()
    return encoder


class _OfMel:
    """An encoder of Whisper's log-mel spectrogram, run by onnxruntime: a frame every 20 ms, T = ceil(N / 320)."""

    session: Any
    mels: int
    positions: int

    def load(self) -> None:
        """Open the graph."""
        _ = self.session

    def frames(self, samples: Samples) -> Floats:
        """Compute the states (T, layers · width) of samples (N,); above 30 s, in pieces of equal length."""
        frames = -(-len(samples) // FRAME_SHIFT)
        padded = np.pad(samples, (0, frames * FRAME_SHIFT + _SILENCE - len(samples)))
        total = len(padded) // FRAME_SHIFT
        ends = np.linspace(0, total, -(-total // self.positions) + 1).astype(int) * FRAME_SHIFT
        mels = (log_mel(padded[start:end], self.mels)[None] for start, end in pairwise(ends))
        states: Floats = np.concatenate([self.session.run(None, {"mel": mel})[0][0] for mel in mels])[:frames]
        if not np.isfinite(states.sum(dtype=np.float64)):
            raise AudioError("the samples are too large or not numbers", mend="Scale them to [-1, 1].")
        return states


class WhisperEncoder(_OfMel):
    """A Whisper encoder read from its weights; its graph is built on loading."""

    def __init__(self, folder: Path, config: Mapping[str, Any], layer: str) -> None:
        self.folder, self.weights = folder, Weights(folder, config)
        self.chosen, self.average = chosen_layers(layer, self.weights.layers, folder)
        self.layers = 1 if self.average else len(self.chosen)
        self.width, self.mels, self.positions = self.weights.width, self.weights.mels, self.weights.positions
        self.digest = files_digest([*weight_files(folder), folder / "config.json"])

    def graph(self, *, int8: bool = False, frames: int = 1500) -> Any:
        """Return the `onnx.ModelProto` of the chosen layers, with positions for `frames`."""
        return build_graph(self.weights, self.chosen, int8=int8, average=self.average, frames=frames)

    @cached_property
    def session(self) -> Any:
        """The graph in onnxruntime."""
        return _session(self.graph().SerializeToString(), self.folder)


class OnnxEncoder(_OfMel):
    """An encoder written by `unheard encoder`, run by onnxruntime on `threads` threads.

    `content` is the content of model.onnx in `folder`. Raises `ConfigError` for any other file or a different `layer`.
    """

    def __init__(self, content: bytes, folder: Path, layer: str, *, threads: int = 1) -> None:
        self.folder, self.digest = folder, content_digest(MODEL, content)
        self.session = _session(content, folder / MODEL, threads)
        self.description = _described(self.session, folder / MODEL)
        self.width, self.layers, self.mels, self.positions = (self.description[name] for name in _SIZES)
        stored = self.description["layer"]
        if layer != stored:
            what = f"this encoder holds layer {stored}, not {layer}"
            raise ConfigError(what, where=folder, mend=f"Ask for {stored}.")


def log_mel(samples: Samples, mels: int = 80) -> Floats:
    """Compute Whisper's log-mel spectrogram of samples (N,) at 16 kHz: (N // 160, mels), scaled to about [-1, 1.5].

    Hann windows of 25 ms, Slaney's mel scale, log10 of the power clipped 8 below its maximum (80 dB), (x + 4) / 4.
    """
    around = np.pad(np.asarray(samples, np.float64), _FFT // 2, mode="reflect")
    window, bank = _mel_tables(mels)
    pieces = np.lib.stride_tricks.sliding_window_view(around, _FFT)[::_HOP][:-1]
    log = np.empty((len(pieces), mels), np.float32)
    for start in range(0, len(pieces), 1000):  # a block of 10 s fits in the cache
        spectrum = np.fft.rfft(pieces[start : start + 1000] * window)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        log[start : start + 1000] = np.log10(np.maximum(power @ bank, 1e-10))
    np.maximum(log, log.max() - 8, out=log)
    log += 4
    log /= 4
    return log


@lru_cache(maxsize=2)
def _mel_tables(mels: int) -> tuple[npt.NDArray[np.float64], Floats]:
    """Return the periodic Hann window (400,) and the mel filters (201, mels), each of area 1."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)
    step, top = np.log(6.4) / 27, 15 + np.log(8) * 27 / np.log(6.4)  # linear to mel 15 = 1 kHz, then logarithmic
    mel = np.linspace(0, top, mels + 2)
    hertz = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))
    low, centre, high = hertz[:-2], hertz[1:-1], hertz[2:]
    bins = np.linspace(0, SAMPLE_RATE / 2, _FFT // 2 + 1)[:, None]
    triangles = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    return window, (triangles * 2 / (high - low)).astype(np.float32)


def onnx_session(content: bytes, threads: int = 1) -> Any:
    """Open the ONNX graph `content` on the CPU with `threads` threads; one thread gives the same sums everywhere.

    No other file is read, in particular no external weights. Raises `ValueError` with the reason if onnxruntime refuses
    the graph.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # errors are raised; a second report on standard error does not help
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as problem:  # onnxruntime's classes have no other base
        raise ValueError(first_line(problem)) from None


_NOWHERE = str(Path(os.devnull) / "nowhere")  # a folder that cannot exist


def first_line(problem: Exception) -> str:
    """Return the first line of an onnxruntime error, without control characters."""
    lines = str(problem).strip().splitlines()
    return "".join(letter for letter in (lines[0] if lines else "") if letter.isprintable())[:200].rstrip(". ")


def _session(content: bytes, where: Path, threads: int = 1) -> Any:
    try:
        return onnx_session(content, threads)
    except ValueError as problem:
        what = f"onnxruntime cannot load this encoder ({problem})"
        raise ConfigError(what, where=where, mend="Write it again with: unheard encoder") from None


def _described(session: Any, where: Path) -> dict[str, Any]:
    """Return the validated description in an encoder's file."""
    try:
        values: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map[_DESCRIPTION])
        if not all(type(values[name]) is int and 0 < values[name] <= most for name, most in _SIZES.items()):
            raise ValueError
        shapes = [(value.name, value.shape[-1]) for value in (*session.get_inputs(), *session.get_outputs())]
        if shapes != [("mel", values["mels"]), ("states", values["width"] * values["layers"])]:
            raise ValueError
        return values | {name: str(values[name]) for name in ("layer", "origin", "weights", "licence")}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        mend = "Make one with: unheard encoder"
        raise ConfigError(f"this {MODEL} is not an encoder", where=where, mend=mend) from None


# An encoder's folder: its location, configuration, layers and identity.


def find_encoder(source: str | Path) -> Path:
    """Return `source` if it is a folder, else the snapshot of the Hugging Face hub's repository of this name.

    A cached snapshot is used without network access; `@REVISION` selects a commit, a branch or a tag.
    """
    folder = Path(source)
    if folder.is_file() and folder.name == MODEL:
        return folder.parent
    if folder.is_dir():
        return folder
    name, _, revision = str(source).partition("@")
    if folder.is_absolute() or name.count("/") != 1 or name.startswith((".", "~", "/")) or name.endswith("/"):
        raise ConfigError("there is no such folder", where=source, mend="Name a folder, or a hub id (OWNER/NAME).")
    with needs("huggingface_hub", "hub"):
        import huggingface_hub
    download = partial(huggingface_hub.snapshot_download, name, revision=revision or None, allow_patterns=_HUB_FILES)
    with suppress(Exception):  # missing from the cache, or incomplete
        cached = Path(download(local_files_only=True))
        weight_files(cached)
        return cached
    try:
        return Path(download())
    except Exception as error:  # the hub's, the network's and the disk's errors share no base
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        what = f"there is no such folder, and {source} cannot be downloaded from the Hugging Face hub ({why})"
        mend = "Check the name and the network, or download it on another machine and name its folder."
        raise ConfigError(what, mend=mend) from None


def read_config(folder: Path) -> dict[str, Any]:
    """Return the folder's config.json; raises `ConfigError` if it cannot be read."""
    try:
        read = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        what = f"there is no encoder here ({type(error).__name__} in config.json)"
        mend = "Name a folder of `unheard encoder`, or one in Hugging Face's or faster-whisper's layout."
        raise ConfigError(what, where=folder, mend=mend) from None
    return read if isinstance(read, dict) else {}


def chosen_layers(layer: str, count: int, where: Path) -> tuple[list[int], bool]:
    """Return the indices of the states that `layer` requests (0: the input, up to `count`), and whether to average.

    >>> chosen_layers("2,3", 6, Path("whisper"))
    ([2, 3], False)
    """
    if layer in ("mean", LEARNED):
        return list(range(count + 1)), layer == "mean"
    numbers = layer.split(",")
    if not all(number.strip().isdecimal() and int(number) <= count for number in numbers):
        mend = f"Choose 0 to {count}, several (2,3), mean or {LEARNED}."
        raise ConfigError(f"the encoder has no layer '{layer}'", where=where, mend=mend)
    return [int(number) for number in numbers], False


def files_digest(files: Sequence[Path]) -> str:
    """Return a digest of the names and contents of `files`, cached by their sizes and modification times."""
    stats = [(path, path.stat()) for path in files if path.exists()]
    return _digest(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@lru_cache(maxsize=8)
def _digest(state: tuple[tuple[Path, int, int], ...]) -> str:
    digest = blake2b(digest_size=8)
    for path, size, _ in state:
        digest.update(f"{path.name}\t{size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def content_digest(name: str, content: bytes) -> str:
    """Return the `files_digest` of one file with this name and content."""
    digest = blake2b(f"{name}\t{len(content)}\n".encode(), digest_size=8)
    digest.update(content)
    return digest.hexdigest()


# `unheard encoder`: writes an encoder as one file that needs only onnxruntime.


def write_encoder(
    source: str | Path, layer: str, folder: Path, *, int8: bool = False, seconds: float = 30.0
) -> OnnxEncoder:
    """Write the Whisper encoder `source` up to `layer` to `folder`: model.onnx, README.md and LICENSE.

    `int8` quantises the weights of matrix products. `seconds` is the longest piece encoded at once, which limits the
    number of positions in the file. An encoder written by this function is copied. Raises like `open_encoder`, and
    `ConfigError` for an encoder of waveforms.
    """
    encoder = open_encoder(source, layer)
    if isinstance(encoder, OnnxEncoder):
        return _copied(encoder, folder, int8)
    if not isinstance(encoder, WhisperEncoder):
        raise ConfigError("only Whisper encoders are written to ONNX", where=source, mend="Use this one as it is.")
    check_number("--seconds", seconds, 1, 30)
    frames = min(round(seconds * SAMPLE_RATE / FRAME_SHIFT), encoder.weights.positions)
    licence = next((path for path in sorted(encoder.folder.glob("LICEN[CS]E*")) if path.is_file()), None)
    terms = (licence or _WHISPER_LICENCE).read_text("utf-8", "replace")
    local, hub_id = Path(source).exists(), str(source).partition("@")[0]
    description = {
        # the folder's name, not its path, for privacy; or the hub id with the downloaded commit
        "origin": encoder.folder.resolve().name if local else f"{hub_id}@{encoder.folder.name}",
        "origin_digest": encoder.digest,
        "layer": layer,
        "width": encoder.width,
        "layers": encoder.layers,
        "mels": encoder.weights.mels,
        "positions": frames,
        "weights": "int8" if int8 else "float",
        "licence": licence.name if licence else "MIT",
        "unheard": __version__,
    }
    model = encoder.graph(int8=int8, frames=frames)
    entry = model.metadata_props.add()
    entry.key, entry.value = _DESCRIPTION, json.dumps(description)
    content = model.SerializeToString()
    write_whole(folder / MODEL, lambda path: path.write_bytes(content))
    write_text(folder / LICENCE, terms)
    table = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in description.items())
    write_text(folder / CARD, _CARD.format(table=table, folder=folder.name))
    return OnnxEncoder(content, folder, layer)


def _copied(encoder: OnnxEncoder, folder: Path, int8: bool) -> OnnxEncoder:
    if int8 and encoder.description["weights"] != "int8":
        mend = "Write it again from its source: unheard encoder SOURCE --int8"
        raise ConfigError("the weights of this encoder are floats already", where=encoder.folder, mend=mend)
    for name in (MODEL, LICENCE, CARD):
        content = read_regular(encoder.folder / name, LARGEST, ConfigError)
        write_whole(folder / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    return encoder


_CARD = """---
library_name: unheard
tags: [speech-emotion-recognition]
---
# A speech encoder, cut and written to ONNX

The first layers of a pretrained speech encoder, as features for speech emotion recognition. onnxruntime runs it:

    unheard features manifest.csv -o STORE --kind encoder --encoder {folder} --layer LAYER

Input `mel` (batch, 2T, mels): Whisper's log-mel spectrogram. Output `states` (batch, T, D), one every 20 ms.

| | |
|---|---|
{table}

The weights are the origin's, under its licence: see LICENSE. Whisper: Radford et al. 2022, *Robust speech recognition
via large-scale weak supervision*.
"""
