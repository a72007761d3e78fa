"""Strategies, corpora, features, poolings and loggers from outside the package, used by name.

A program calls `register`; an installed package declares entry points in the groups of `GROUPS`. Built-in names cannot
be replaced. Worker processes receive a program's plug-ins together with their work: classes of a script or notebook by
value, classes of a module by name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from hashlib import blake2b
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from unheard.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = {
    "strategy": "unheard.strategies",
    "corpus": "unheard.corpora",
    "feature": "unheard.features",
    "pooling": "unheard.poolings",
    "logger": "unheard.loggers",
}
"""Kind of plug-in -> its group of entry points."""

_BUILT_IN = {
    "strategy": ("unheard.experiments.baselines", "NAMES"),
    "corpus": ("unheard.corpora", "CORPORA"),
    "feature": ("unheard.features.settings", "KINDS"),
    "pooling": ("unheard.model.settings", "POOLINGS"),
    "logger": ("unheard.training.logging", "LOGGERS"),
}
"""Kind of plug-in -> module and table of the built-in names."""


class Plugin(NamedTuple):
    """A registered object and a hash of its source code, which is part of the identity of results."""

    thing: Any
    digest: str


_registered: dict[tuple[str, str], Plugin] = {}


def register(kind: str, name: str, thing: Any = None) -> Any:
    """Make `thing` usable as `name`; without `thing`, return a decorator.

    By `kind`: "strategy", a subclass of `unheard.training.strategies.Strategy`; "corpus", an
    `unheard.corpora.corpus.Corpus`; "feature", a function of samples (N,) at `features.sample_rate` that returns
    (T, F); "pooling", a module class like `unheard.model.layers.AttentivePooling`; "logger", a context manager like
    those in `unheard.training.logging`. Raises `ConfigError` for an unknown kind, and for a name that is malformed or
    built in.

    >>> @unheard.register("feature", "loudness")  # doctest: +SKIP
    ... def loudness(samples):
    ...     return np.log(samples[: len(samples) // 160 * 160].reshape(-1, 160).std(1, keepdims=True) + 1e-5)
    """
    if kind not in GROUPS:
        raise ConfigError(f"unknown kind of plug-in '{kind}'", mend=did_you_mean(kind, GROUPS))
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise ConfigError(f"'{name}' cannot be the name of a {kind}", mend="Use small letters, digits and hyphens.")
    if name in _built_in_names(kind):
        raise ConfigError(f"'{name}' is a built-in {kind}", mend="Choose another name.")
    if thing is None:
        return partial(register, kind, name)
    if not (hasattr(thing, "patterns") if kind == "corpus" else callable(thing)):
        raise ConfigError(f"{thing!r} is not a {kind}", where=f"register('{kind}', '{name}')")
    _registered[kind, name] = Plugin(thing, _digest(thing))
    return thing


def _built_in_names(kind: str) -> tuple[str, ...]:
    module, table = _BUILT_IN[kind]
    return tuple(getattr(import_module(module), table))


def names(kind: str) -> tuple[str, ...]:
    """Return the names of all plug-ins of a kind without loading them."""
    return tuple(sorted({name for its_kind, name in _registered if its_kind == kind} | _points(kind).keys()))


def find(kind: str, name: str) -> Plugin | None:
    """Return the plug-in of this name, or None if unknown; raises `ConfigError` if it cannot be loaded."""
    if (kind, name) not in _registered and name in _points(kind):
        point = _points(kind)[name]
        try:
            register(kind, name, point.load())
        except Exception as error:  # a third-party package may raise anything
            what = f"the {kind} '{name}' cannot be loaded ({type(error).__name__}: {error})"
            raise ConfigError(what, where=f"entry point {point.group}: {name} = {point.value}") from error
    return _registered.get((kind, name))


def required(kind: str, name: str, called: str = "") -> Plugin:
    """Return the plug-in of this name; raises `ConfigError` if unknown, naming the kind as `called`."""
    plugin = find(kind, name)
    if plugin is None:
        mend = did_you_mean(name, (*_built_in_names(kind), *names(kind)))
        raise ConfigError(f"unknown {called or kind} '{name}'", mend=mend)
    return plugin


def registered() -> dict[tuple[str, str], Plugin]:
    """Return the plug-ins registered in this process, for `restore` in another one."""
    return dict(_registered)


def restore(given: Mapping[tuple[str, str], Plugin]) -> None:
    """Register the plug-ins of another process."""
    _registered.update(given)


@cache
def _points(kind: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUPS[kind])}


def _digest(thing: Any) -> str:
    """Return a hash of the source of a class or function, or of the repr of any other object."""
    source: Callable[[Any], str] = inspect.getsource if inspect.isroutine(thing) or inspect.isclass(thing) else repr
    try:
        text = source(thing)
    except (OSError, TypeError):  # typed into an interpreter
        text = getattr(thing, "__qualname__", type(thing).__name__)
    return blake2b(text.encode(), digest_size=6).hexdigest()
