"""Declaration of settings: once, in the frozen dataclass of their package, with a default, a description and a range.

`unheard.experiments.config` derives YAML keys, flags, help and the reference page from these declarations (through
pydantic, which reads the same metadata). `check` needs only the standard library, for programs without pydantic.
"""

import dataclasses
import math
import typing
from collections.abc import Callable
from functools import cache
from numbers import Real
from typing import Any, Literal

from unheard.errors import ConfigError, did_you_mean

_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "ge": ("at least", lambda value, bound: value >= bound),
    "gt": ("above", lambda value, bound: value > bound),
    "le": ("at most", lambda value, bound: value <= bound),
    "lt": ("below", lambda value, bound: value < bound),
}


def setting(
    default: Any,
    description: str,
    *,
    common: bool = False,
    derived: bool = False,
    compare: bool = True,
    **bounds: float,
) -> Any:
    """Declare a setting: its default (a class is a factory), a one-sentence description and bounds (ge, gt, le, lt).

    `--help` shows `common` settings, `--help-all` shows all. `derived` settings follow from others and are never given.
    """
    metadata: dict[str, Any] = {"description": description, **bounds}
    metadata["json_schema_extra"] = {"common": common, "derived": derived}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata, compare=compare)


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """Return name -> type of each setting of a dataclass."""
    return typing.get_type_hints(kind)


def range_of(field: dataclasses.Field[Any]) -> str:
    """Return the range of a setting in words, such as "at least 0, below 1"; empty if it has no bounds."""
    return ", ".join(f"{words} {field.metadata[b]:g}" for b, (words, _) in _BOUNDS.items() if b in field.metadata)


def described(field: dataclasses.Field[Any], hint: Any, default: Any) -> str:
    """Return the description of a setting with its choices, range and default."""
    if isinstance(default, tuple):
        default = ",".join(map(str, default)) if all(isinstance(x, (str, int)) for x in default) else list(default)
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    notes = [", ".join(filter(None, choices)), range_of(field)]
    if default not in (dataclasses.MISSING, "", None):
        notes.append(f"default: {default}")
    more = "; ".join(filter(None, notes))
    return str(field.metadata.get("description", "")) + (f" [{more}]" if more else "")


def check(settings: Any) -> None:
    """Check the settings of a dataclass in its `__post_init__` and convert numbers in place (1 to 1.0).

    Raises `ConfigError` for a value of the wrong type, outside its declared range, or not among its choices.
    """
    kind: type = type(settings)
    for field in dataclasses.fields(settings):
        hint, name, value = hints_of(kind)[field.name], field.name, getattr(settings, field.name)
        if typing.get_origin(hint) is Literal and value not in typing.get_args(hint):
            raise ConfigError(f"unknown {name} '{value}'", mend=did_you_mean(str(value), typing.get_args(hint)))
        if hint == int | None and value is not None:
            hint = int
        if hint not in (bool, int, float, str):
            continue
        converted = _converted(hint, value)
        if converted is None or (converted == math.inf and field.default != math.inf):
            raise ConfigError(f"{name} = {value!r} has the wrong type", mend=f"Give a value of type {hint.__name__}.")
        bounds = [b for b in _BOUNDS if b in field.metadata]
        if any(not _BOUNDS[b][1](converted, field.metadata[b]) for b in bounds):
            raise ConfigError(f"{name} = {value} is out of range", mend=f"Give a number {range_of(field)}.")
        object.__setattr__(settings, name, converted)


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Raise `ConfigError` for anything but a number from `least` to `most`."""
    if not isinstance(value, Real) or not least <= float(value) <= most:
        mend = f"Give a number from {least:g} to {most:g}."
        raise ConfigError(f"{name} = {value!r} is out of range", mend=mend)


def _converted(kind: type, value: Any) -> Any:
    """Return `value` as a `kind` (bool, int, float or str), or None if it cannot be converted."""
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    if kind is str or (kind is int and isinstance(value, int)):
        return value if isinstance(value, kind) else None
    try:
        number = float(value)
        if math.isnan(number) or (kind is int and number != int(number)):
            return None
        return kind(number)
    except (TypeError, ValueError, OverflowError):
        return None
