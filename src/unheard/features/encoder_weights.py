"""Read the weights of a Whisper encoder, from the two layouts in which people have them on disk.

    Hugging Face folder      config.json, model.safetensors (or its parts with an index)
    faster-whisper folder    model.bin of CTranslate2 (binary version 4 and later)

Both become tensors under Hugging Face's names without their prefix (`conv1.weight`, `layers.0.fc1.bias`). Tensors are
memory-mapped or read one at a time, so that only the layers in use cost memory. A pickle is never opened.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError, MissingExtra
from unheard.features.settings import LEARNED

Floats = npt.NDArray[np.float32]

_CTRANSLATE2 = "model.bin"
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, np.uint16)  # CTranslate2's DataType; the last: bfloat16
_BFLOAT16 = 5
_HEAD = 64  # the width of an attention head in every released Whisper


@dataclass(frozen=True)
class Weights:
    """The encoder's sizes and `tensor(name)`, which returns one tensor in float32 or raises `ConfigError`."""

    width: int
    layers: int
    heads: int
    mels: int
    positions: int
    tensor: Callable[[str], Floats]


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights in `folder`; raises `ConfigError` where there are none but pickles."""
    index = folder / "model.safetensors.index.json"
    if (single := folder / "model.safetensors").is_file():
        return [single]
    if index.is_file():
        try:
            parts = sorted({str(part) for part in json.loads(index.read_text("utf-8"))["weight_map"].values()})
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"the index of the weights is damaged ({error})", where=index, mend=_AGAIN) from None
        if absent := [part for part in parts if not (folder / part).is_file() or Path(part).name != part]:
            raise ConfigError(f"a part of the weights is missing: {absent[0]}", where=folder, mend=_AGAIN)
        return [index, *(folder / part for part in parts)]
    if (folder / _CTRANSLATE2).is_file() and not _is_pickle(folder / _CTRANSLATE2):
        return [folder / _CTRANSLATE2]
    pickles = sorted(path.name for ending in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(ending))
    raise ConfigError(
        f"the weights are a pickle ({pickles[0]}), which can run code" if pickles else "no weights (model.safetensors)",
        where=folder,
        mend="Convert it where you trust it: transformers' AutoModel.from_pretrained(FOLDER).save_pretrained(NEW) "
        "writes safetensors."
        if pickles
        else "Name a folder in Hugging Face's or faster-whisper's layout.",
    )


def read_weights(folder: Path, config: Mapping[str, Any]) -> Weights:
    """Open the weights of the Whisper encoder in `folder`, whose config.json is `config`.

    Raises `ConfigError` for weights that are missing, truncated, of another model or in a type that numpy lacks.
    """
    files = weight_files(folder)
    if files[0].name == _CTRANSLATE2:
        found = _read_ctranslate2(files[0])
        heads = int(found["encoder/num_heads"]) if "encoder/num_heads" in found else 0
        tensor = _renamed(found, files[0])
    else:
        tensor = _safetensors(folder, [path for path in files if path.suffix == ".safetensors"])
        heads = int(config.get("encoder_attention_heads", 0))
    layers = 0
    width, mels, _ = tensor("conv1.weight").shape
    while _has(tensor, f"layers.{layers}.fc1.bias"):
        layers += 1
    return Weights(width, layers, heads or width // _HEAD, mels, len(tensor("embed_positions.weight")), tensor)


_AGAIN = "Download or copy it again."


def _has(tensor: Callable[[str], Floats], name: str) -> bool:
    try:
        tensor(name)
    except ConfigError:
        return False
    return True


def _foreign(where: Path, name: str) -> ConfigError:
    return ConfigError(f"not the weights of a Whisper encoder: no tensor {name}", where=where, mend=_AGAIN)


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2)
    return head == b"PK" or head[:1] == b"\x80"  # a zip of torch.save, or a bare pickle


def _safetensors(folder: Path, files: list[Path]) -> Callable[[str], Floats]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingExtra("safetensors", "train") from None
    where: dict[str, Any] = {}
    for path in files:
        try:
            opened: Any = safe_open(path, framework="np")
            where |= dict.fromkeys(opened.keys(), opened)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"the weights are damaged ({error})", where=path, mend=_AGAIN) from None
    prefix = next((p for p in ("model.encoder.", "encoder.", "") if f"{p}conv1.weight" in where), None)

    def tensor(name: str) -> Floats:
        if prefix is None or prefix + name not in where:
            raise _foreign(folder, name)
        try:
            read: Floats = where[prefix + name].get_tensor(prefix + name).astype(np.float32)
        except (TypeError, ValueError, SafetensorError) as error:  # numpy has no bfloat16
            raise ConfigError(
                f"tensor {name} cannot be read ({error})", where=folder, mend="Save the model in float16 or float32."
            ) from None
        return read

    return tensor


def _read_ctranslate2(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Map every variable of a CTranslate2 model.bin, bounds checked, by its name."""
    with path.open("rb") as file:
        size = path.stat().st_size
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    place = 0

    def take(count: int) -> int:
        nonlocal place
        if place + count > size:
            raise ConfigError(f"model.bin is truncated after {size} bytes", where=path, mend=_AGAIN)
        place += count
        return place - count

    def number(code: str) -> int:
        return int(struct.unpack_from("<" + code, data, take(struct.calcsize(code)))[0])

    def text() -> str:
        length = number("H")
        start = take(length)
        return bytes(data[start : start + length]).rstrip(b"\0").decode("utf-8", "replace")

    version = number("I")
    if not 4 <= version <= 100:
        raise ConfigError("model.bin is not in CTranslate2's format", where=path, mend="Convert the model again.")
    kind, _ = text(), number("I")
    if kind != "WhisperSpec":
        raise ConfigError(f"model.bin holds a {kind or 'model without a name'}, not Whisper", where=path)
    found: dict[str, npt.NDArray[Any]] = {}
    for _ in range(number("I")):
        name = text()
        shape = tuple(number("I") for _ in range(number("B")))
        code, length = number("B"), number("I")
        start = take(length)
        if code >= len(_TYPES) or length != int(np.prod(shape, dtype=object)) * np.dtype(_TYPES[code]).itemsize:
            raise ConfigError(f"model.bin is damaged at variable '{name}'", where=path, mend=_AGAIN)
        value = np.frombuffer(data, _TYPES[code], length // np.dtype(_TYPES[code]).itemsize, start).reshape(shape)
        found[name] = (value.astype(np.uint32) << 16).view(np.float32) if code == _BFLOAT16 else value
    for _ in range(number("I")):
        alias, name = text(), text()
        if name in found:
            found[alias] = found[name]
    return found


def _renamed(found: Mapping[str, npt.NDArray[Any]], path: Path) -> Callable[[str], Floats]:
    """Give CTranslate2's variables Hugging Face's names; integer weights are divided by their scale."""

    def variable(name: str) -> Floats:
        if name not in found:
            raise _foreign(path, name)
        value = found[name].astype(np.float32)
        if f"{name}_scale" in found:  # int8: one scale a row; int16: one for all
            scale = found[f"{name}_scale"].astype(np.float32)
            value = value / scale.reshape(scale.shape + (1,) * (value.ndim - 1) if scale.size > 1 else ())
        return value

    def tensor(name: str) -> Floats:
        *place, module, kind = name.split(".")
        scope = "/".join(("encoder", f"layer_{place[1]}" if place else "")).rstrip("/")
        kind = {"weight": "gamma", "bias": "beta"}[kind] if "norm" in module else kind
        if module in ("q_proj", "k_proj", "v_proj"):
            packed = variable(f"{scope}/self_attention/linear_0/{kind}")
            return np.split(packed, 3)["qkv".index(module[0])]
        return variable(f"{scope}/{_MODULES.get(module, module)}/{'encodings' if 'embed' in module else kind}")

    return tensor


_MODULES = {
    "embed_positions": "position_encodings",
    "out_proj": "self_attention/linear_1",
    "self_attn_layer_norm": "self_attention/layer_norm",
    "final_layer_norm": "ffn/layer_norm",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}


# What an encoder's folder says: its configuration, its layers, its identity.


def read_config(folder: Path) -> dict[str, Any]:
    """Return the folder's config.json; raises `ConfigError` where there is none."""
    try:
        read = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"there is no encoder here ({type(error).__name__} in config.json)",
            where=folder,
            mend="Name a folder of `unheard encoder`, or one in Hugging Face's or faster-whisper's layout.",
        ) from None
    return read if isinstance(read, dict) else {}


def chosen_layers(layer: str, count: int, where: Path) -> tuple[list[int], bool]:
    """Return the numbers of the states that `layer` asks for, of `count` layers and the input, and whether to average.

    >>> chosen_layers("2,3", 6, Path("whisper"))
    ([2, 3], False)
    """
    if layer in ("mean", LEARNED):
        return list(range(count + 1)), layer == "mean"
    words = layer.split(",")
    if not all(word.strip().isdecimal() and int(word) <= count for word in words):
        raise ConfigError(
            f"the encoder has no layer '{layer}'",
            where=where,
            mend=f"Choose 0 to {count}, several (2,3), mean or {LEARNED}.",
        )
    return [int(word) for word in words], False


def files_digest(files: Sequence[Path]) -> str:
    """Return a digest of the names and contents of `files`, kept while their sizes and times of change stay."""
    stats = [(str(path), path.stat()) for path in files if path.exists()]
    return _digest(tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@lru_cache(maxsize=8)
def _digest(state: tuple[tuple[str, int, int], ...]) -> str:
    digest = blake2b(digest_size=8)
    for name, size, _ in state:
        digest.update(f"{Path(name).name}\t{size}\n".encode())
        with Path(name).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
