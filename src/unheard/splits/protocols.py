"""The protocols: who trains, who validates, who is tested.

One rule keeps every protocol but `given` leak-free: **test is never touched; dev gives way to test; training
gives way to both.** Rows of dev whose speaker is in test, and rows of training whose group, speaker or
session is in dev or test (an IEMOCAP speaker's session partner, say), are left out of that fold, and a note
of the split counts them. So that little has to be left out, groups that share a session stand side by side in
seeded orders and move together in `kfold`. `given` is the user's word: it raises where it leaks.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from math import ceil
from typing import TypeVar

from unheard.errors import ConfigError, SplitError, did_you_mean
from unheard.manifest import Manifest, Note, Utterance, plain
from unheard.splits.split import Direction, Fold, Split, key_of

PROTOCOLS = ("paired", "kfold", "loso", "random", "given", "cross", "leave-corpus-out")
PARTS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
}
"""The words a file or a column may use for the three parts."""


def make_split(
    manifest: Manifest,
    protocol: str,
    *,
    group: str = "speaker",
    test: str = "both",
    k: int = 5,
    n: tuple[int, int, int] | None = None,
    column: str | None = None,
    train_corpora: Iterable[str] | None = None,
    test_corpora: Iterable[str] | None = None,
    seed: int = 0,
    folds: int | None = None,
    emotions_may_differ: bool = False,
) -> Split:
    """Split `manifest` by `group` with one of the `PROTOCOLS`; equal arguments give an equal split.

    - `paired`: the i-th female and the i-th male by id are held out; where sessions hold both, of
      the session. `test="both"` reads a fold twice, direction "male" (dev female, test male) and "female";
      `"male"` or `"female"` reads it once, in a direction of that name. Who has no partner always trains.
    - `kfold`: `k` gender-stratified parts; fold f tests part f and validates on part f+1 (mod k).
    - `loso`: each group tests once, the next two in seeded order validate.
    - `random`: `n` = (train, dev, test) groups, one fold; without `n` a tenth, at least one,
      each for dev and test.
    - `given`: `column` holds train | dev | test (or val, valid…): one fold; or the name of a fold:
      each value is tested once and the next, in natural order, validates. Rows with no value are left out. A
      column that holds both, parts and other words, is refused.
    - `cross`: train on `train_corpora` (all but the tested ones by default), test on `test_corpora`, validate
      on a tenth (at least 2) of the training corpora's groups, drawn evenly over corpora and genders.
    - `leave-corpus-out`: one fold a corpus, in alphabetical order; each is the fold of `cross` that tests this corpus
      and trains on all others.

    `folds` keeps the first N. Raises `SplitError` where the manifest allows no such split or it would leak,
    `ConfigError` for an unknown protocol or option.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol '{protocol}'", mend=did_you_mean(protocol, PROTOCOLS))
    if protocol == "given":
        made, notes = _given(manifest, column)
    else:
        trained: set[str] = set()
        tested: set[str] = set()
        taking_part = manifest
        if protocol == "cross":
            trained, tested = plan_corpora(manifest, train_corpora, test_corpora)
            taking_part = manifest.where(lambda row: row.corpus in trained | tested)
        groups = Groups(taking_part, group)
        salt = f"{protocol}/{seed}"
        if protocol == "paired":
            plans = plan_paired(groups, test)
        elif protocol == "kfold":
            plans = plan_kfold(groups, k, salt)
        elif protocol == "loso":
            plans = plan_loso(groups, salt)
        elif protocol == "random":
            plans = plan_random(groups, n, salt)
        elif protocol == "cross":
            plans = plan_cross(groups, trained, tested, salt)
        else:
            plans = plan_leave_corpus_out(groups, seed)
        made, notes = _carry_out(groups, plans)
        if len(taking_part) < len(manifest):
            unused = len(manifest) - len(taking_part)
            notes = [*notes, Note("unused", f"{unused} utterances of other corpora take no part")]
    if folds is not None and not 1 <= folds <= len(made):
        raise ConfigError(f"{folds} folds asked for, {protocol} has {len(made)} here", mend="Ask for fewer.")
    kept = made[:folds]
    return Split(
        manifest,
        protocol,
        tuple(fold for fold, _ in kept),
        group=group,
        seed=seed,
        total_folds=len(made),
        notes=(*notes, *(note for _, note in kept if note)),
        emotions_may_differ=emotions_may_differ,
    )


def default_protocol(corpus: str, manifest: Manifest | None = None) -> tuple[str, dict[str, object]]:
    """The protocol and its options for a corpus when the user chooses none.

    IEMOCAP and EmoDB: `paired`, both directions; RAVDESS and nEMO: `kfold` 6; the synthetic corpus: `given` by its
    column `part`; everything else, ASED and CREMA-D included: `kfold` 5, or `loso` where `manifest` has fewer
    than 10 speakers.
    """
    if corpus in ("iemocap", "emodb"):
        return "paired", {"test": "both"}
    if corpus in ("ravdess", "nemo"):
        return "kfold", {"k": 6}
    if corpus == "synthetic" and (manifest is None or all("part" in row.extra for row in manifest)):
        return "given", {"column": "part"}
    if corpus not in ("ased", "crema-d") and manifest is not None and len(manifest.speakers) < 10:
        return "loso", {}
    return "kfold", {"k": 5}


def _carry_out(groups: Groups, plans: Plans) -> tuple[list[tuple[Fold, Note | None]], list[Note]]:
    """Ids of every fold under the rule: dev gives way to test, training to both."""
    rows = groups.manifest.by_id()
    speaker = {name: row.speaker for name, row in rows.items()}
    session = {name: key_of(row, "session") for name, row in rows.items()}
    tied = {name: ({speaker[i] for i in ids}, {session[i] for i in ids} - {""}) for name, ids in groups.ids.items()}
    made: list[tuple[Fold, Note | None]] = []
    for index, held in enumerate(plans.folds):
        gone: list[str] = []
        directions = []
        speakers: set[str] = set()
        sessions: set[str] = set()
        for name, dev_groups, test_groups in held.directions:
            test = [utterance for group in test_groups for utterance in groups.ids[group]]
            tested = {speaker[utterance] for utterance in test}
            offered = [utterance for group in dev_groups for utterance in groups.ids[group]]
            dev = [utterance for utterance in offered if speaker[utterance] not in tested]
            gone += [utterance for utterance in offered if speaker[utterance] in tested]
            directions.append(Direction(name, tuple(dev), tuple(test)))
            for utterance in (*dev, *test):
                speakers.add(speaker[utterance])
                sessions.add(session[utterance])
        sessions.discard("")
        train: list[str] = []
        for group in held.train:
            if tied[group][0].isdisjoint(speakers) and tied[group][1].isdisjoint(sessions):
                train += groups.ids[group]
                continue
            for utterance in groups.ids[group]:
                away = speaker[utterance] in speakers or session[utterance] in sessions
                (gone if away else train).append(utterance)
        made.append((Fold(index, tuple(train), tuple(directions)), _left_out(index, gone, rows)))
    return made, plans.notes


def _left_out(index: int, gone: Sequence[str], rows: dict[str, Utterance]) -> Note | None:
    if not gone:
        return None
    who = sorted({rows[name].speaker for name in gone}, key=natural)
    return Note(
        "left_out",
        f"fold {index}: {len(gone)} utterances of {', '.join(who)} are left out, because their session or "
        "speaker is held out",
        tuple(gone),
    )


def _given(manifest: Manifest, column: str | None) -> tuple[list[tuple[Fold, Note | None]], list[Note]]:
    if not column:
        raise ConfigError("given needs the name of a column", mend="For example --column part.")
    members: dict[str, list[str]] = {}
    for row in manifest:
        members.setdefault(plain(row.get(column)), []).append(row.id)
    bare = members.pop("", [])
    message = f"{len(bare)} utterances have no value in '{column}' and are in no part"
    notes = [Note("unused", message, tuple(bare))] if bare else []
    if members and all(value.lower() in PARTS for value in members):
        parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
        for value, ids in members.items():
            parts[PARTS[value.lower()]] += ids
        absent = [part for part, ids in parts.items() if not ids]
        if absent:
            raise SplitError(
                f"the column '{column}' marks no utterance as {' or '.join(absent)}",
                mend="It takes train, dev (which chooses the epoch) and test, without common speakers.",
            )
        direction = Direction("test", tuple(parts["dev"]), tuple(parts["test"]))
        return [(Fold(0, tuple(parts["train"]), (direction,)), None)], notes
    names = sorted(members, key=natural)
    if known := [name for name in names if name.lower() in PARTS]:  # a slip of the pen would test training speakers
        others = ", ".join(f"'{name}' ({len(members[name])})" for name in names if name not in known)
        raise SplitError(
            f"the column '{column}' marks utterances as {', '.join(known)}, and as {others}",
            mend="Write train, dev or test in every row, and nothing in rows that take no part; or name folds alone.",
        )
    if len(names) < 3:
        raise SplitError(
            f"the column '{column}' has {len(names)} values ({', '.join(names)}); folds need at least 3",
            mend="Use the values train, dev and test, or name at least three folds.",
        )
    made: list[tuple[Fold, Note | None]] = []
    for index, name in enumerate(names):
        following = names[(index + 1) % len(names)]
        train = tuple(i for value in names if value not in (name, following) for i in members[value])
        directions = (Direction("test", tuple(members[following]), tuple(members[name])),)
        made.append((Fold(index, train, directions), None))
    return made, notes


# Orders that are the same on every machine: natural order, seeded order, and who is tied to whom.

T = TypeVar("T")
GENDERS = {
    **dict.fromkeys(("f", "female", "w", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}


def natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sorting key under which speaker 2 comes before speaker 10."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts if p], text


def shuffled(items: Sequence[T], seed: str) -> list[T]:
    """The items in a seeded order.

    Sorted by draws of `random.Random(seed).random()`, the one sequence that Python promises to keep between
    versions and platforms; a text seed does not depend on `PYTHONHASHSEED`.
    """
    draw = random.Random(seed)
    return [item for _, item in sorted(((draw.random(), item) for item in items), key=lambda pair: pair[0])]


def in_turn(strata: Iterable[Sequence[T]]) -> list[T]:
    """The first of every stratum, then the second of every stratum, and so on."""
    gap = object()
    return [item for item in chain.from_iterable(zip_longest(*strata, fillvalue=gap)) if item is not gap]  # type: ignore[misc]


class Groups:
    """The groups of a manifest in natural order: their utterances, their genders, and who is tied to whom.

    Two groups are tied when they share a session or, where the group is not the speaker, a speaker.
    """

    def __init__(self, manifest: Manifest, group: str) -> None:
        self.manifest = manifest
        self.column = group
        self.ids: dict[str, list[str]] = defaultdict(list)
        self._genders: dict[str, set[str]] = defaultdict(set)
        ties: dict[Hashable, set[str]] = defaultdict(set)
        for row in manifest:
            name = key_of(row, group)
            if not name:
                raise SplitError(
                    f"utterance '{row.id}' has no value in the group column '{group}'",
                    mend="Fill the column, or choose another with --group.",
                )
            self.ids[name].append(row.id)
            self._genders[name].add(GENDERS.get(row.gender.strip().lower(), ""))
            ties["speaker", row.speaker].add(name)
            if session := key_of(row, "session"):
                ties["session", session].add(name)
        self.names: list[str] = sorted(self.ids, key=natural)
        self.blocks: list[list[str]] = _components(self.names, ties.values())

    def gender(self, name: str) -> str:
        """`female`, `male`, '' where it is unknown, `female+male` where the group mixes them."""
        return "+".join(sorted(self._genders[name]))

    def stratum(self, block: Sequence[str]) -> str:
        """What a block of groups is stratified by: the genders in it."""
        return "+".join(sorted({self.gender(name) for name in block}))

    def shuffled_strata(self, blocks: Sequence[list[str]], seed: str) -> list[list[list[str]]]:
        """Blocks by stratum (in alphabetical order), seeded order within each."""
        strata: dict[str, list[list[str]]] = defaultdict(list)
        for block in blocks:
            strata[self.stratum(block)].append(block)
        return [shuffled(strata[name], f"{seed}/{name}") for name in sorted(strata)]

    def in_seeded_order(self, seed: str) -> list[str]:
        """The groups in seeded order; tied ones stand side by side, so that few are left out of training."""
        return [name for block in shuffled(self.blocks, seed) for name in block]


def _components(names: Sequence[str], ties: Iterable[set[str]]) -> list[list[str]]:
    root = {name: name for name in names}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for tied in ties:
        first, *others = sorted(tied)
        for other in others:
            root[find(other)] = find(first)
    blocks: dict[str, list[str]] = defaultdict(list)
    for name in names:
        blocks[find(name)].append(name)
    return list(blocks.values())


# Which groups train, validate and test under each protocol; utterances come later.


@dataclass(frozen=True)
class Plan:
    """Groups of one fold before the rule above is applied; directions are (name, dev, test)."""

    train: Sequence[str]
    directions: Sequence[tuple[str, Sequence[str], Sequence[str]]]


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


def plan_paired(groups: Groups, test: str) -> Plans:
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


def plan_kfold(groups: Groups, k: int, salt: str) -> Plans:
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


def plan_loso(groups: Groups, salt: str) -> Plans:
    """One fold a group, in seeded order."""
    _need(groups, 4, "loso")
    order = groups.in_seeded_order(salt)
    plans = []
    for place, held in enumerate(order):
        dev = [order[(place + step) % len(order)] for step in (1, 2)]
        plans.append(Plan(_others(groups, (*dev, held)), [("test", dev, [held])]))
    return Plans(plans)


def plan_random(groups: Groups, n: tuple[int, int, int] | None, salt: str) -> Plans:
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


def plan_corpora(
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


def plan_cross(groups: Groups, trained: set[str], tested: set[str], salt: str) -> Plans:
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


def plan_leave_corpus_out(groups: Groups, seed: int) -> Plans:
    """One fold a corpus: test it, train on the others."""
    corpora = {row.corpus for row in groups.manifest}
    if len(corpora) < 2 or "" in corpora:
        raise SplitError(
            f"leave-corpus-out needs at least 2 corpora and a corpus for every row, here are: "
            f"{', '.join(map(repr, sorted(corpora)))}",
            mend="Fill the column 'corpus', or choose another protocol.",
        )
    every = [plan_cross(groups, corpora - {corpus}, {corpus}, f"cross/{seed}") for corpus in sorted(corpora)]
    notes = [
        Note(note.kind, f"test on {corpus}: {note.message}")
        for corpus, plans in zip(sorted(corpora), every, strict=True)
        for note in plans.notes
    ]
    return Plans([plan for plans in every for plan in plans.folds], notes)
