"""Speech emotion recognition for voices the model has never heard.

Public names are imported on first use, so that `import unheard` is fast and does not load torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unheard.corpora import read_corpus, read_manifest
    from unheard.errors import UnheardError
    from unheard.experiments.run import experiment
    from unheard.features import FeatureSettings, FeatureStore, build_store, extract
    from unheard.manifest import Manifest, Utterance
    from unheard.plugins import register
    from unheard.recogniser import load
    from unheard.splits import make_split

if not os.environ.get("ORT_DISABLE_TELEMETRY"):  # onnxruntime from 1.29 on reports usage unless it is set before
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"

_WHERE = {
    name: f"unheard.{module}"
    for module, names in {
        "corpora": ("read_corpus", "read_manifest"),
        "errors": ("UnheardError",),
        "experiments.run": ("experiment",),
        "features": ("FeatureSettings", "FeatureStore", "build_store", "extract"),
        "manifest": ("Manifest", "Utterance"),
        "plugins": ("register",),
        "recogniser": ("load",),
        "splits": ("make_split",),
    }.items()
    for name in names
}

__all__ = [
    "FeatureSettings", "FeatureStore", "Manifest", "UnheardError", "Utterance", "__version__", "build_store",
    "experiment", "extract", "load", "make_split", "read_corpus", "read_manifest", "register",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'unheard' has no attribute '{name}'")
    try:
        module = import_module(_WHERE[name])
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors", "pydantic", "scipy", "sklearn", "matplotlib"):
            raise
        return _missing(name, str(error.name))
    return getattr(module, name)


def _missing(name: str, package: str) -> Any:
    """Return a stand-in that raises `MissingExtra` when called, so that `hasattr`, `dir` and `help` still work."""
    from unheard.errors import MissingExtra

    def needs_extra(*_: Any, **__: Any) -> Any:
        raise MissingExtra(package, "train")

    needs_extra.__name__ = needs_extra.__qualname__ = name
    needs_extra.__doc__ = f'Not available without {package}. Install it with: pip install "unheard[train]"'
    return needs_extra


def __dir__() -> list[str]:
    return sorted(__all__)
