"""Ready-made experiments, a YAML file each: what a configuration file and the command line build on.

A preset names a corpus, never where it is. Its first line says what it is for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, did_you_mean

HERE = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The presets, the paper's two first."""
    found = sorted(path.stem for path in HERE.glob("*.yaml"))
    paper = ("iemocap", "mandarin")
    return (*paper, *(name for name in found if name not in paper))


def about(name: str) -> str:
    """What a preset is for, in one line."""
    return _text(name).splitlines()[0].lstrip("# ")


def read_preset(name: str) -> dict[str, Any]:
    """The settings of a preset; raises `ConfigError` for an unknown one, naming the closest."""
    import yaml

    values: dict[str, Any] = yaml.safe_load(_text(name))
    return values


def _text(name: str) -> str:
    if name not in names():
        raise ConfigError(f"unknown preset '{name}'", mend=did_you_mean(name, names()))
    return (HERE / f"{name}.yaml").read_text(encoding="utf-8")
