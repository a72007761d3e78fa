"""The strategies by name.

To add one, write a file with a final subclass of `Strategy` (and a frozen dataclass of its options), and add a line to
`STRATEGIES`.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any

from unheard import plugins
from unheard.errors import ConfigError, did_you_mean
from unheard.settings import check
from unheard.training.strategies.base import MTL, SER, Batch, MTLOptions, Strategy, StrategyConfig, per_member
from unheard.training.strategies.cgt import CGT, CGTOptions
from unheard.training.strategies.dat import DAT, DATOptions

STRATEGIES: dict[str, tuple[str, type[Strategy], type | None]] = {
    "ser": ("SER_only", SER, None),
    "mtl": ("SER_SR_MTL", MTL, MTLOptions),
    "dat": ("SER_SR_DAT", DAT, DATOptions),
    "cgt": ("SER_SR_CGT", CGT, CGTOptions),
}
"""Key -> (name in the paper's tables, class, options)."""

__all__ = ["STRATEGIES", "Batch", "Strategy", "StrategyConfig", "build", "per_member", "resolve_options", "strategy_of"]


def strategy_of(key: str) -> tuple[str, type[Strategy], type | None]:
    """Return name, class and options of strategy `key`, the package's own or a plug-in.

    A plug-in is called as its class; the default of its argument `options` is a dataclass, if it has options. Raises
    `ConfigError` for an unknown key.
    """
    if key in STRATEGIES:
        return STRATEGIES[key]
    strategy = plugins.required("strategy", key, "system").thing
    options = inspect.signature(strategy).parameters.get("options")
    return strategy.__name__, strategy, type(options.default) if options else None


def resolve_options(key: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all options of strategy `key`, defaults filled in.

    None stands for an infinite default, as JSON has no infinity. Raises `ConfigError` for an unknown key or option, or
    a value of the wrong type or out of range.
    """
    kind = strategy_of(key)[2]
    defaults = {f.name: f.default for f in dataclasses.fields(kind)} if kind else {}
    for name in options or {}:
        if name not in defaults:
            raise ConfigError(f"system '{key}' has no option '{name}'", mend=did_you_mean(name, defaults or {"none"}))
    if kind is None:
        return {}
    resolved = kind(**{n: v for n, v in (options or {}).items() if v is not None or defaults[n] != math.inf})
    try:
        check(resolved)
    except ConfigError as error:
        raise ConfigError(error.what, where=f"options.{key}", mend=error.mend) from None
    return dataclasses.asdict(resolved)


def build(key: str, config: StrategyConfig, options: Mapping[str, Any] | None = None) -> Strategy:
    """Build the strategy named `key` for `config`; `options` as in `resolve_options`."""
    resolved = resolve_options(key, options)
    _, make, kind = strategy_of(key)
    return make(config, kind(**resolved)) if kind else make(config)  # type: ignore[call-arg]
