"""Read the weights of a Whisper encoder, and what an encoder's folder holds.

    Hugging Face folder      config.json, model.safetensors (or its parts with an index)
    faster-whisper folder    model.bin of CTranslate2 (binary version 4 and later)

Both become tensors under Hugging Face's names without their prefix (`conv1.weight`, `layers.0.fc1.bias`), mapped from
the files, so that only the layers in use cost memory. A pickle is never opened.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError
from unheard.features.settings import LEARNED

Floats = npt.NDArray[np.float32]
Tensors = dict[str, npt.NDArray[Any]]

_CTRANSLATE2 = "model.bin"
_AGAIN = "Download or copy it again."
_HEAD = 64  # width of an attention head in every released Whisper


@dataclass(frozen=True)
class Weights:
    """A Whisper encoder's sizes and tensors."""

    folder: Path
    width: int
    layers: int
    heads: int
    mels: int
    positions: int
    tensors: Tensors

    def tensor(self, name: str) -> Floats:
        """Return one tensor in float32; raises `ConfigError` where it is missing."""
        if name not in self.tensors:
            raise ConfigError(f"not the weights of a Whisper encoder: no tensor {name}", where=self.folder, mend=_AGAIN)
        return self.tensors[name].astype(np.float32)


def read_weights(folder: Path, config: Mapping[str, Any]) -> Weights:
    """Map the weights of the Whisper encoder in `folder`, whose config.json is `config`.

    Raises `ConfigError` for weights that are missing, damaged, truncated, or of another model.
    """
    files = weight_files(folder)
    tensors: Tensors = {}
    for path in files:
        if path.suffix != ".json":
            tensors |= _read(path)
    prefix = next((p for p in ("model.encoder.", "encoder.", "") if f"{p}conv1.weight" in tensors), "")
    tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    found = Weights(folder, 0, 0, 0, 0, 0, tensors)
    width, mels, kernel = (*found.tensor("conv1.weight").shape, 0, 0, 0)[:3]
    if kernel != 3:
        raise ConfigError("not the weights of a Whisper encoder: conv1.weight", where=folder, mend=_AGAIN)
    layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    heads = int(tensors["num_heads"]) if "num_heads" in tensors else int(config.get("encoder_attention_heads", 0))
    positions = len(found.tensor("embed_positions.weight"))
    return Weights(folder, width, layers, heads or width // _HEAD, mels, positions, tensors)


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
    pickles = sorted(path for ending in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(ending))
    if folder / _CTRANSLATE2 in pickles and not _is_pickle(folder / _CTRANSLATE2):
        return [folder / _CTRANSLATE2]
    if pickles:
        raise ConfigError(
            f"the weights are a pickle ({pickles[0].name}), which can run code",
            where=folder,
            mend="Convert it where you trust it: transformers' AutoModel.from_pretrained(FOLDER).save_pretrained(NEW) "
            "writes safetensors.",
        )
    raise ConfigError(
        "no weights (model.safetensors)",
        where=folder,
        mend="Name a folder in Hugging Face's or faster-whisper's layout.",
    )


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2)
    return head == b"PK" or head[:1] == b"\x80"  # a zip of torch.save, or a bare pickle


def _read(path: Path) -> Tensors:
    """Map the tensors of a file; every length in it is checked against the file's."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    try:
        return _ctranslate2(data, path) if path.name == _CTRANSLATE2 else _safetensors(data)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        what = " ".join(str(error).split())[:100]
        raise ConfigError(f"the weights are damaged or truncated ({what})", where=path, mend=_AGAIN) from None


def _view(data: mmap.mmap | bytes, kind: str, shape: Sequence[int], start: int, length: int) -> npt.NDArray[Any]:
    """The tensor at data[start : start + length]; raises `ValueError` where its length is another or passes the end."""
    dtype = np.dtype(np.uint16 if kind == "bfloat16" else kind)
    count = int(np.prod(shape, dtype=object))
    if count * dtype.itemsize != length or start + length > len(data):
        raise ValueError(f"{length} bytes for a tensor of shape {tuple(shape)}, {len(data)} in the file")
    value = np.frombuffer(data, dtype, count, start).reshape(shape)
    return (value.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else value


_SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _safetensors(data: mmap.mmap | bytes) -> Tensors:
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:body].decode())
    header.pop("__metadata__", None)
    found: Tensors = {}
    for name, entry in header.items():
        if entry["dtype"] in _SAFETENSORS_TYPES:
            start, end = entry["data_offsets"]
            found[name] = _view(data, _SAFETENSORS_TYPES[entry["dtype"]], entry["shape"], body + start, end - start)
    return found


_CTRANSLATE2_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_CTRANSLATE2_NAMES = {
    "position_encodings.encodings": "embed_positions.weight",
    "self_attention.linear_0": "self_attn.qkv_proj",
    "self_attention.linear_1": "self_attn.out_proj",
    "self_attention.layer_norm": "self_attn_layer_norm",
    "ffn.layer_norm": "final_layer_norm",
    "ffn.linear_0": "fc1",
    "ffn.linear_1": "fc2",
    "layer_norm.gamma": "layer_norm.weight",
    "layer_norm.beta": "layer_norm.bias",
}


def _ctranslate2(data: mmap.mmap | bytes, path: Path) -> Tensors:
    """The encoder's variables under Hugging Face's names: queries, keys and values apart, integers scaled back."""
    place = 0

    def number(code: str) -> int:
        nonlocal place
        place += struct.calcsize("<" + code)
        return int(struct.unpack_from("<" + code, data, place - struct.calcsize("<" + code))[0])

    def text() -> str:
        nonlocal place
        length = number("H")
        place += length
        return bytes(data[place - length : place]).rstrip(b"\0").decode()

    version = number("I")
    if not 4 <= version <= 100:
        raise ConfigError("model.bin is not in CTranslate2's format", where=path, mend="Convert the model again.")
    kind, _ = text(), number("I")
    if kind != "WhisperSpec":
        raise ConfigError(f"model.bin holds a {kind}, not Whisper", where=path, mend="Name a Whisper model.")
    variables: Tensors = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype, length = number("B"), number("I")
        variables[name] = _view(data, dict(enumerate(_CTRANSLATE2_TYPES))[dtype], shape, place, length)
        place += length
    variables |= {text(): variables[text()] for _ in range(number("I"))}  # aliases
    found: Tensors = {}
    for name, value in variables.items():
        if not name.startswith("encoder/") or name.endswith("_scale"):
            continue
        if f"{name}_scale" in variables:  # int8: one scale a row; int16: one for all
            scale = variables[f"{name}_scale"].astype(np.float32)
            value = value / scale.reshape(scale.shape + (1,) * (value.ndim - scale.ndim))
        name = name.replace("encoder/layer_", "layers.").removeprefix("encoder/").replace("/", ".")
        for theirs, ours in _CTRANSLATE2_NAMES.items():
            name = name.replace(theirs, ours)
        parts = np.split(value, 3) if "qkv_proj" in name else [value]
        found |= {name.replace("qkv_proj", f"{part}_proj"): v for part, v in zip("qkv", parts, strict=False)}
    return found


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


def content_digest(name: str, content: bytes) -> str:
    """Return what `files_digest` returns for one file of this name and content."""
    digest = blake2b(f"{name}\t{len(content)}\n".encode(), digest_size=8)
    digest.update(content)
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _digest(state: tuple[tuple[str, int, int], ...]) -> str:
    digest = blake2b(digest_size=8)
    for name, size, _ in state:
        digest.update(f"{Path(name).name}\t{size}\n".encode())
        with Path(name).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
