"""The strategies, one file each, and the table that names them.

To add one: a file with a final subclass of `Strategy` (and a frozen dataclass of its options), and a line here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from unheard.errors import ConfigError, did_you_mean
from unheard.training.strategies.base import MTL, SER, Batch, MTLOptions, Setting, Strategy
from unheard.training.strategies.cgt import CGT, CGTOptions
from unheard.training.strategies.dat import DAT, DATOptions

STRATEGIES: dict[str, tuple[str, type[Strategy], type | None]] = {
    "ser": ("SER_only", SER, None),
    "mtl": ("SER_SR_MTL", MTL, MTLOptions),
    "dat": ("SER_SR_DAT", DAT, DATOptions),
    "cgt": ("SER_SR_CGT", CGT, CGTOptions),
}
"""Key -> (name in the paper's tables, class, options)."""

__all__ = ["STRATEGIES", "Batch", "Setting", "Strategy", "build", "resolve_options"]


def resolve_options(key: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All options of strategy `key`, defaults filled in; raises `ConfigError` for an unknown key or option.

    None stands for a default that is infinite, as in a `result.json`: JSON knows no infinity.
    """
    if key not in STRATEGIES:
        raise ConfigError(f"unknown system '{key}'", mend=did_you_mean(key, STRATEGIES))
    kind = STRATEGIES[key][2]
    known = {f.name: f.default for f in dataclasses.fields(kind)} if kind else {}
    chosen = {}
    for name, value in (options or {}).items():
        if name not in known:
            raise ConfigError(f"system '{key}' has no option '{name}'", mend=did_you_mean(name, known or {"none"}))
        if value is not None or known[name] != math.inf:
            chosen[name] = _option(f"{key}.{name}", value, type(known[name]))
    return dataclasses.asdict(kind(**chosen)) if kind else {}


def _option(name: str, value: Any, kind: type) -> Any:
    """`value` as the `kind` its default has, so that 1 and 1.0 are one setting."""
    if kind is float and not isinstance(value, bool):
        with suppress(TypeError, ValueError):
            value = float(value)
    if not isinstance(value, kind) or value != value:  # a NaN is no number to train with
        raise ConfigError(f"option '{name}' takes a {kind.__name__}, not {value!r}")
    return value


def build(key: str, setting: Setting, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy named `key` for `setting`, its options as in `resolve_options`."""
    resolved = resolve_options(key, options)
    _, make, kind = STRATEGIES[key]
    return make(setting, kind(**resolved)) if kind else make(setting)  # type: ignore[call-arg]
