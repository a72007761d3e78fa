"""Which groups train, validate and test under each protocol; utterances come later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from unheard.errors import ConfigError, SplitError, did_you_mean
from unheard.manifest import Manifest, Note
from unheard.splits.order import Groups, in_turn
from unheard.splits.split import key_of


@dataclass(frozen=True)
class Plan:
    """Groups of one fold before the rule above is applied; readings are (name, dev, test)."""

    train: Sequence[str]
    readings: Sequence[tuple[str, Sequence[str], Sequence[str]]]


@dataclass
class Plans:
    """What a protocol decides."""

    folds: list[Plan]
    notes: list[Note] = field(default_factory=list)


def _need(groups: Groups, least: int, protocol: str) -> None:
    if len(groups.names) < least:
        raise SplitError(
            f"{protocol} needs at least {least} values of '{groups.column}', here are {len(groups.names)}",
            mend="Add speakers, or choose a protocol that needs fewer.",
        )


def _others(groups: Groups, held: Iterable[str]) -> list[str]:
    held = set(held)
    return [name for name in groups.names if name not in held]


def paired(groups: Groups, test: str) -> Plans:
    """Pairs of a female and a male: of a session where any holds both genders, else in the order of ids."""
    if test not in ("both", "male", "female"):
        raise ConfigError(f"unknown test '{test}'", mend=did_you_mean(test, ("both", "male", "female")))
    unknown = [name for name in groups.names if groups.gender(name) not in ("female", "male")]
    if unknown:
        raise SplitError(
            f"paired needs one gender, female or male, for every {groups.column}; "
            f"{len(unknown)} have none or two, {unknown[0]} first",
            mend="Fill the column 'gender', or use the protocol kfold.",
        )
    by_session = any(groups.stratum(block) == "female+male" for block in groups.blocks)
    pairs = []
    for block in groups.blocks if by_session else [groups.names]:
        women = [name for name in block if groups.gender(name) == "female"]
        men = [name for name in block if groups.gender(name) == "male"]
        pairs += list(zip(women, men, strict=False))
    if not pairs or len(groups.names) < 3:
        raise SplitError(
            f"paired needs a female, a male and at least one more {groups.column} to train on; "
            f"the manifest has {len(groups.names)} and {len(pairs)} pairs",
            mend="Use the protocol kfold or loso, or add speakers.",
        )
    plans = []
    for woman, man in pairs:
        directions = {"male": ([woman], [man]), "female": ([man], [woman])}
        chosen = ("male", "female") if test == "both" else (test,)
        plans.append(Plan(_others(groups, (woman, man)), [(name, *directions[name]) for name in chosen]))
    unpaired = _others(groups, (name for pair in pairs for name in pair))
    if not unpaired:
        return Plans(plans)
    note = Note("unpaired", f"{len(unpaired)} without a partner always train: {', '.join(unpaired)}")
    return Plans(plans, [note])


def kfold(groups: Groups, k: int, salt: str) -> Plans:
    """`k` parts, dealt stratum after stratum."""
    if k < 3:
        raise ConfigError(f"kfold needs k of at least 3, not {k}", mend="One part tests, one validates, one trains.")
    _need(groups, k, f"kfold with k = {k}")
    blocks = groups.blocks if len(groups.blocks) >= k else [[name] for name in groups.names]
    parts: list[list[str]] = [[] for _ in range(k)]
    # Dealing stratum after stratum keeps both each stratum and the whole within one block of even.
    dealt = [block for stratum in groups.shuffled_strata(blocks, salt) for block in stratum]
    for place, block in enumerate(dealt):
        parts[place % k] += block
    plans = []
    for f in range(k):
        dev, held = parts[(f + 1) % k], parts[f]
        plans.append(Plan(_others(groups, (*dev, *held)), [("test", dev, held)]))
    unknown = sum(groups.gender(name) not in ("female", "male") for name in groups.names)
    if groups.column != "speaker" or not unknown:
        return Plans(plans)
    note = Note("gender_unknown", f"{unknown} of {len(groups.names)} have no one gender: not stratified by it")
    return Plans(plans, [note])


def loso(groups: Groups, salt: str) -> Plans:
    """One fold a group, in seeded order."""
    _need(groups, 4, "loso")
    order = groups.in_seeded_order(salt)
    plans = []
    for place, held in enumerate(order):
        dev = [order[(place + step) % len(order)] for step in (1, 2)]
        plans.append(Plan(_others(groups, (*dev, held)), [("test", dev, [held])]))
    return Plans(plans)


def random(groups: Groups, n: tuple[int, int, int] | None, salt: str) -> Plans:
    """One fold of n = (train, dev, test) groups."""
    total = len(groups.names)
    if n is None:
        tenth = max(1, round(total / 10))
        n = (max(1, total - 2 * tenth), tenth, tenth)
    if len(n) != 3 or min(n) < 1:
        raise ConfigError(f"n is (train, dev, test), each at least 1, not {n}", mend="For example n = (200, 25, 25).")
    _need(groups, sum(n), f"random with n = {n[0]}/{n[1]}/{n[2]}")
    order = groups.in_seeded_order(salt)
    train, dev, held = order[: n[0]], order[n[0] : n[0] + n[1]], order[n[0] + n[1] : sum(n)]
    unused = order[sum(n) :]
    notes = [Note("unused", f"{len(unused)} values of '{groups.column}' are in no part")] if unused else []
    return Plans([Plan(train, [("test", dev, held)])], notes)


def corpora(
    manifest: Manifest, train_corpora: Iterable[str] | None, test_corpora: Iterable[str] | None
) -> tuple[set[str], set[str]]:
    """Which corpora `cross` trains on and tests; raises `ConfigError` for one that is not there, or on both sides."""
    known = sorted({row.corpus for row in manifest})
    tested = set(test_corpora or ())
    trained = set(known) - tested if train_corpora is None else set(train_corpora)
    for name in sorted(tested | trained):
        if name not in known:
            raise ConfigError(f"the manifest has no corpus '{name}'", mend=did_you_mean(name, known))
    if not tested or not trained or tested & trained:
        raise ConfigError(
            f"cross trains on {sorted(trained)} and tests on {sorted(tested)}: both need a corpus, and none in common",
            mend="Name them with train_corpora and test_corpora.",
        )
    return trained, tested


def cross(groups: Groups, trained: set[str], tested: set[str], salt: str) -> Plans:
    """One fold: train on some corpora, test on others; `groups` are of rows of these alone."""
    corpora_of: dict[str, set[str]] = {name: set() for name in groups.names}
    for row in groups.manifest:
        corpora_of[key_of(row, groups.column)].add(row.corpus)
    astride = [name for name, corpora in corpora_of.items() if corpora & trained and corpora & tested]
    if astride:
        raise SplitError(
            f"{groups.column} {astride[0]} is in a training and in a test corpus",
            mend="Where two corpora only share the name, read them together with Manifest.concat.",
        )
    pool = [name for name in groups.names if corpora_of[name] & trained]
    count = max(2, ceil(len(pool) / 10))
    if len(pool) < count + 1:
        raise SplitError(
            f"cross needs 3 values of '{groups.column}' to train and validate on, here are {len(pool)}",
            mend="Add a corpus to train on.",
        )
    strata = [
        stratum
        for corpus in sorted(trained)
        for stratum in groups.shuffled_strata(
            [[name] for name in pool if min(corpora_of[name] & trained) == corpus], f"{salt}/{corpus}"
        )
    ]
    dev = [name for block in in_turn(strata)[:count] for name in block]
    train = [name for name in pool if name not in dev]
    held = [name for name in groups.names if corpora_of[name] & tested]
    return Plans(
        [Plan(train, [("test", dev, held)])],
        [Note("cross_dev", f"{len(dev)} of {len(pool)} from the training corpora validate: {', '.join(dev)}")],
    )
