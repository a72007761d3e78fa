"""`unheard experiment` and `unheard train`: every setting of an experiment as a flag, or from a YAML file."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from unheard.cli.common import say
from unheard.errors import ConfigError
from unheard.experiments.config import Experiment, load


def _flags(kind: type, name: str, leave_out: tuple[str, ...] = ()) -> type:
    """A dataclass with the fields of `kind`, all optional: what is not given on the command line stays None."""
    hints = typing.get_type_hints(kind)
    fields: list[Any] = []
    for field in dataclasses.fields(kind):
        if field.name in leave_out:
            continue
        hint: Any = hints[field.name]
        if dataclasses.is_dataclass(hint):
            hint = _flags(typing.cast(type, hint), field.name)
        elif hint not in (bool, int, float):
            hint = str  # words and pairs come separated by commas; `load` takes them apart
        default = _shown(field)
        text = " ".join(filter(None, [field.metadata.get("description", ""), default and f"[default: {default}]"]))
        parameter = Parameter(help=text, show_default=False, converter=_whole if hint is int else None)
        fields.append((field.name, Annotated[hint | None, parameter], dataclasses.field(default=None)))
    made = dataclasses.make_dataclass(name, fields, frozen=True)
    made.__module__ = __name__  # a class of the module `types` would not be taken apart into flags
    return made


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """A whole number; 2.7 is none, as in a YAML file, where it would be cut otherwise."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value} is no whole number") from None


def _shown(field: dataclasses.Field[Any]) -> str:
    default = field.default
    if default is dataclasses.MISSING or default in ("", ()):
        return ""
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _given(flags: Any) -> dict[str, Any]:
    """What was given, nested as in a YAML file."""
    values = {}
    for field in dataclasses.fields(flags):
        value = getattr(flags, field.name)
        if dataclasses.is_dataclass(value):
            value = _given(value) or None
        if value is not None:
            values[field.name] = value
    return values


def _options(words: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """`dat.lam=0.3` as {"dat": {"lam": 0.3}}."""
    import yaml

    options: dict[str, dict[str, Any]] = {}
    for word in words:
        path, sign, value = word.partition("=")
        system, dot, name = path.partition(".")
        if not (sign and dot and system and name):
            raise ConfigError(f"option '{word}' is not SYSTEM.NAME=VALUE", mend="Write --option dat.lam=0.3.")
        try:
            options.setdefault(system, {})[name.replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"option '{word}' has no value that can be read", mend="Write --option dat.lam=0.3."
            ) from error
    return options


Flags = _flags(Experiment, "Flags", leave_out=("options",))
TrainFlags = _flags(Experiment, "TrainFlags", leave_out=("options", "systems", "folds", "seeds", "tune"))
Config = Annotated[
    Path | None,
    Parameter(help="YAML file with the same settings, its paths relative to its folder; flags win over it."),
]
DryRun = Annotated[
    bool,
    Parameter(
        negative="",
        show_default=False,
        help="Say how many trainings it is and how long they take here, measured, and stop; only features are made.",
    ),
]
Options = Annotated[
    tuple[str, ...],
    Parameter(
        name="--option",
        negative="",
        show_default=False,
        help="Option of one system, such as dat.lam=0.3 or cgt.epsilon=0.1; may be repeated.",
    ),
]


def _settings(config: Path | None, flags: Any, option: tuple[str, ...], **fixed: Any) -> Experiment:
    overrides: Mapping[str, Any] = {**_given(flags), **fixed}
    if option:
        overrides = {**overrides, "options": _options(option)}
    return load(config, overrides)


def experiment(
    *,
    config: Config = None,
    option: Options = (),
    dry_run: DryRun = False,
    flags: Annotated[Flags, Parameter(name="*")] = Flags(),  # type: ignore[valid-type]  # noqa: B008 - frozen
) -> int:
    """Compare systems over folds and seeds on speakers never heard in training.

    Example: unheard experiment --preset emodb --root data/emodb --systems ser,dat --out RUN

    Says first how many trainings it is and how long they take here. Writes RUN/table.md, results.csv, splits.csv,
    config.yaml and a folder for every training. The same call again does only what is missing; a longer --epochs
    continues, unless the learning rate follows a schedule. Exits with 1 where a training failed.
    """
    settings = _settings(config, flags, option)
    from unheard.experiments.run import carry_out, foretell

    if dry_run:
        print(foretell(settings, say))
        return 0
    run = carry_out(settings, say)
    sys.stdout.write(run.table)
    for name, reason in run.failed.items():
        say(f"failed: {name}: {reason}")
    return int(bool(run.failed))


def train(
    system: str = "ser",
    /,
    *,
    config: Config = None,
    option: Options = (),
    flags: Annotated[TrainFlags, Parameter(name="*")] = TrainFlags(),  # type: ignore[valid-type]  # noqa: B008 - frozen
) -> int:
    """Train one system on the first fold with seed 0, and say where its model is.

    Example: unheard train dat --manifest my.csv --protocol random --out RUN

    Parameters
    ----------
    system
        ser (SER_only), mtl, dat or cgt.
    """
    from unheard.experiments.baselines import FITTED

    if system in FITTED:
        raise ConfigError(
            f"system '{system}' is fitted in an experiment and leaves no model",
            mend=f"Compare with it: unheard experiment --systems ser,{system} ...",
        )
    fixed = {"systems": (system,), "folds": 1, "seeds": 1, "tune": False}
    settings = _settings(config, flags, option, **fixed)
    from unheard.experiments.run import carry_out

    run = carry_out(settings, say)
    for name, reason in run.failed.items():
        say(f"failed: {name}: {reason}")
    if run.failed:
        return 1
    sys.stdout.write(run.table)
    for model in run.models:
        print(model)
    return 0
