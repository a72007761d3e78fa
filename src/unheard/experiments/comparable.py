"""Whether two runs can be compared: the same labels, the same split, the same data. Else: what exactly differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from unheard.errors import SplitError

if TYPE_CHECKING:
    from unheard.experiments.records import RunRecords

SPLITTING = (
    "corpus", "manifest", "subset", "partial", "emotions", "map", "speakers", "channel", "protocol", "group", "test",
    "k", "n", "column", "train_corpora", "test_corpora", "split_seed", "folds",
)  # fmt: skip
"""Settings that decide who trains, validates and is tested; equal splits make their differences immaterial."""
IMMATERIAL = ("root", "out", "systems", "seeds", "store", "workers", "engine", "address", "gpus", "tensorboard",
              "progress", "invariance", "weights_from")  # fmt: skip
"""Settings that are no property of a trained system."""

VERBS = {"train": "trains on", "dev": "validates on", "test": "tests"}
SHOWN = 6
"""Names written out; of more, how many there are."""


class Difference(NamedTuple):
    """A setting that differs, as words."""

    setting: str
    a: str
    b: str


def check_comparable(a: RunRecords, b: RunRecords) -> None:
    """Raises `SplitError`, saying what differs and how to mend it, unless labels, split and data are the same."""
    for reasons in (_labels(a, b), _split(a, b), _truth(a, b), _data(a, b)):
        if reasons:
            more = f" (and {len(reasons) - 3} more differences)" if len(reasons) > 3 else ""
            raise SplitError(
                f"the runs cannot be compared: {'; '.join(reasons[:3])}{more}",
                where=f"A = {a.folder}, B = {b.folder}",
                mend=_mend(a, b),
            )


def settings_that_differ(a: RunRecords, b: RunRecords) -> tuple[Difference, ...]:
    """What else differs between runs on the same split: recipe, network, features, options, versions."""
    own, other = (_flat(run.settings.as_dict(), skip=(*SPLITTING, *IMMATERIAL)) for run in (a, b))
    return _differences(own, other) + _differences(_versions(a), _versions(b))


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Difference, ...]:
    names = dict.fromkeys((*a, *b))
    return tuple(
        Difference(name, _word(a.get(name)), _word(b.get(name))) for name in names if a.get(name) != b.get(name)
    )


def _labels(a: RunRecords, b: RunRecords) -> list[str]:
    if a.labels == b.labels:
        return []
    return [f"they tell different emotions apart, {', '.join(a.labels)} in A, {', '.join(b.labels)} in B"]


def _split(a: RunRecords, b: RunRecords) -> list[str]:
    """Differences in folds and readings, then in speakers, then in single utterances."""
    if set(a.splits) == set(b.splits):
        return []
    held = [_parts(run) for run in (a, b)]
    if set(held[0]) != set(held[1]):
        return _layouts(*held)
    reasons = []
    for (fold, reading, part), own in held[0].items():
        other = held[1][fold, reading, part]
        place = f"fold {fold}" + (f" ({reading})" if reading not in ("", "test") else "")
        speakers = [set(ids.values()) for ids in (own, other)]
        if speakers[0] != speakers[1]:
            only = [sorted(speakers[0] - speakers[1]), sorted(speakers[1] - speakers[0])]
            if len(speakers[0]) <= SHOWN >= len(speakers[1]):
                both = [f"speaker{'s' if len(s) != 1 else ''} {_names(sorted(s))}" for s in speakers]
                reasons.append(f"{place} {VERBS[part]} {both[0]} in A, {_names(sorted(speakers[1]))} in B")
            else:
                said = [f"{_names(names)} in {run} only" for names, run in zip(only, "AB", strict=True) if names]
                reasons.append(f"{place} {VERBS[part]} speakers {' and '.join(said)}")
        elif own != other:
            utterances = [sorted(set(own) - set(other)), sorted(set(other) - set(own))]
            said = [f"{_names(names)} in {run} only" for names, run in zip(utterances, "AB", strict=True) if names]
            reasons.append(
                f"{place} {VERBS[part]} the utterances {' and '.join(said)}" if said else _respoken(own, other)
            )
    return reasons


def _respoken(own: Mapping[str, str], other: Mapping[str, str]) -> str:
    name = next(name for name in own if own[name] != other[name])
    return f"'{name}' is spoken by {own[name]} in A, by {other[name]} in B"


def _parts(run: RunRecords) -> dict[tuple[int, str, str], dict[str, str]]:
    """(fold, reading, part) -> id -> speaker; test first, as that is what a reader asks for first."""
    parts: dict[tuple[int, str, str], dict[str, str]] = {}
    order = ("test", "dev", "train")
    for row in sorted(run.splits, key=lambda row: (row.fold, order.index(row.part))):
        parts.setdefault((row.fold, row.reading, row.part), {})[row.id] = row.speaker
    return parts


def _layouts(a: Iterable[tuple[int, str, str]], b: Iterable[tuple[int, str, str]]) -> list[str]:
    """How the folds, or else their readings, differ."""
    folds: list[dict[int, list[str]]] = []
    for parts in (a, b):
        layout: dict[int, list[str]] = {}
        for fold, reading, part in sorted(parts):
            layout.setdefault(fold, []).append(f"{part} {reading}" if reading not in ("", "test") else part)
        folds.append(layout)
    own, other = folds
    if set(own) != set(other):
        words = [f"{_names(list(map(str, layout)))} ({len(layout)} in all)" for layout in folds]
        return [f"A has the folds {words[0]}, B has {words[1]}"]
    return [
        f"fold {fold} has the parts {', '.join(own[fold])} in A, {', '.join(other[fold])} in B"
        for fold in own
        if own[fold] != other[fold]
    ]


def _truth(a: RunRecords, b: RunRecords) -> list[str]:
    """Utterances of the split whose emotion or speaker the runs state differently."""
    reasons = []
    for name in sorted({row.id for row in a.splits}):
        own, other = a.utterances.get(name, {}), b.utterances.get(name, {})
        for column in ("emotion", "speaker"):
            if own.get(column, "") and other.get(column, "") and own[column] != other[column]:
                reasons.append(f"the {column} of '{name}' is {own[column]} in A, {other[column]} in B")
    return reasons


def _data(a: RunRecords, b: RunRecords) -> list[str]:
    """Folds whose data differ in what the digests of their cells cover: the decoded audio, above all.

    They also cover the features' settings; where those differ nothing can be said.
    """
    if a.settings.group != b.settings.group:
        return []
    own, other = ({cell.fold: cell.result.get("proof", {}) for cell in run.cells} for run in (a, b))
    folds = [
        fold
        for fold, proof in own.items()
        if fold in other
        and proof.get("features") == other[fold].get("features")
        and proof.get("data") != other[fold].get("data")
    ]
    return (
        [f"the recordings of fold {', '.join(map(str, sorted(folds)))} are not the same (data digests)"]
        if folds
        else []
    )


def unknown_data(a: RunRecords, b: RunRecords) -> list[str]:
    """A note where no digest says whether the runs heard the same recordings, since their features differ."""
    features = [{cell.result.get("proof", {}).get("features") for cell in run.cells} for run in (a, b)]
    if features[0] & features[1]:
        return []
    return ["The features differ: whether both heard the same recordings cannot be told, only that they are named so."]


def _mend(a: RunRecords, b: RunRecords) -> str:
    flat = [{name: run.settings.as_dict().get(name) for name in SPLITTING} for run in (a, b)]
    differing = _differences(*flat)
    if not differing:
        return "Run both on the same corpus, in the same version, with the same settings of the split."
    said = [f"--{name.replace('_', '-')} ({own} in A, {other} in B)" for name, own, other in differing]
    return f"Run one of them again; settings that differ: {', '.join(said)}."


def _versions(run: RunRecords) -> dict[str, Any]:
    """The versions that the run's cells were trained with, `version of torch` -> numbers."""
    found: dict[str, set[str]] = {}
    for cell in run.cells:
        for name, version in cell.result.get("proof", {}).get("versions", {}).items():
            found.setdefault(f"version of {name}", set()).add(str(version))
    return {name: sorted(versions) for name, versions in found.items()}


def _flat(values: Mapping[str, Any], prefix: str = "", skip: Sequence[str] = ()) -> dict[str, Any]:
    """`{"training": {"lr": 1}}` as `{"training.lr": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if prefix + name in skip:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _word(value: Any) -> str:
    """A setting's value as words; a dash for the default."""
    if value is None or value in ("", [], {}, ()):
        return "–"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def _names(names: Sequence[str]) -> str:
    """`03, 08`, or `03, 04, 05, 06, 07, 08 and 12 more`."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
