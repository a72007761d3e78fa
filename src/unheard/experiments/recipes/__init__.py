"""Recipes, a YAML file each: how networks are trained, whatever the corpus.

A recipe is features, network and training together. Settings of a preset, of a file and of the command line win over
it. Its first line says what it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, did_you_mean

HERE = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The recipes, the paper's first."""
    return tuple(sorted((path.stem for path in HERE.glob("*.yaml")), key=lambda name: (name != "paper", name)))


def about(name: str) -> str:
    """What a recipe is, in one line."""
    return _text(name).splitlines()[0].lstrip("# ")


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe; raises `ConfigError` for an unknown one, naming the closest."""
    import yaml

    values: dict[str, Any] = yaml.safe_load(_text(name))
    return values


def _text(name: str) -> str:
    if name not in names():
        raise ConfigError(f"unknown recipe '{name}'", mend=did_you_mean(name, names()))
    return (HERE / f"{name}.yaml").read_text(encoding="utf-8")
