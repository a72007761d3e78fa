"""Protocols: which speakers train, validate and test.

One rule keeps every protocol but `given` free of leaks: rows of dev whose speaker is in test are dropped from the fold,
and so are rows of training whose group, speaker or session is in dev or test. A note of the split counts them. To drop
few rows, groups that share a session stand side by side in seeded orders and move together in `kfold`. `given` follows
the user's column and raises `SplitError` if it leaks.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain, zip_longest
from math import ceil
from typing import NamedTuple, TypeVar

from unheard.corpora.rows import canonical_gender
from unheard.errors import ConfigError, SplitError, did_you_mean
from unheard.manifest import Manifest, Note, plain
from unheard.splits.split import Direction, Fold, Split, key_of

PROTOCOLS = ("paired", "kfold", "loso", "random", "given", "cross", "leave-corpus-out")
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Words for the three parts in files and columns."""


class Plan(NamedTuple):
    """The groups of one fold before the rule above is applied; directions are (name, dev, test)."""

    train: Sequence[str]
    directions: Sequence[tuple[str, Sequence[str], Sequence[str]]]


Plans = tuple[list[Plan], list[Note]]
Made = tuple[list[tuple[Fold, Note | None]], list[Note]]


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
    """Split `manifest` by `group` under one of the `PROTOCOLS`; equal arguments give an equal split.

    - `paired`: hold out the i-th female and the i-th male by id, or those of a session where sessions hold both. With
      `test="both"` a fold has the directions "male" (dev female, test male) and "female"; with "male" or "female" only
      that one. Speakers without a partner always train.
    - `kfold`: `k` gender-stratified parts; fold f tests part f and validates on part f+1 (mod k).
    - `loso`: each group tests once; the next two in seeded order validate.
    - `random`: one fold with `n` = (train, dev, test) groups; by default a tenth, at least one, for dev and test each.
    - `given`: `column` holds train, dev or test (or val, valid...), which makes one fold; or the name of a fold: each
      value is tested once, and the next in natural order validates. Rows without a value are not used. Raises
      `SplitError` for a column with both, parts and other words.
    - `cross`: train on `train_corpora` (default: all but the tested ones), test on `test_corpora`, validate on a tenth
      (at least 2) of the groups of the training corpora, drawn evenly over corpora and genders.
    - `leave-corpus-out`: one fold per corpus, in alphabetical order: the fold of `cross` that tests this corpus and
      trains on all others.

    `folds` keeps the first folds. Raises `SplitError` if the manifest allows no such split or the split leaks,
    `ConfigError` for an unknown protocol or option.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol '{protocol}'", mend=did_you_mean(protocol, PROTOCOLS))
    if protocol == "given":
        made, notes = _given(manifest, column)
    else:
        used, trained, tested = manifest, set[str](), set[str]()
        if protocol == "cross":
            trained, tested = _corpora(manifest, train_corpora, test_corpora)
            used = manifest.where(lambda row: row.corpus in trained | tested)
        groups = Groups(used, group)
        salt = f"{protocol}/{seed}"
        plans, notes = {
            "paired": lambda: _paired(groups, test),
            "kfold": lambda: _kfold(groups, k, salt),
            "loso": lambda: _loso(groups, salt),
            "random": lambda: _random(groups, n, salt),
            "cross": lambda: _cross(groups, trained, tested, salt),
            "leave-corpus-out": lambda: _leave_corpus_out(groups, seed),
        }[protocol]()
        made = _folds(groups, plans)
        if len(used) < len(manifest):
            notes.append(Note("unused", f"{len(manifest) - len(used)} utterances of other corpora are not used"))
    if folds is not None and not 1 <= folds <= len(made):
        raise ConfigError(f"{folds} folds asked for, {protocol} has {len(made)} here", mend="Ask for fewer.")
    return Split(
        manifest,
        protocol,
        tuple(fold for fold, _ in made[:folds]),
        group=group,
        seed=seed,
        total_folds=len(made),
        notes=(*notes, *(note for _, note in made[:folds] if note)),
        emotions_may_differ=emotions_may_differ,
    )


def default_protocol(corpus: str, manifest: Manifest | None = None) -> tuple[str, dict[str, object]]:
    """Return the default protocol of a corpus and its options.

    IEMOCAP and EmoDB: `paired` in both directions; RAVDESS and nEMO: `kfold` 6; the synthetic corpus: `given` by its
    column `part`; ASED, CREMA-D and all others: `kfold` 5, or `loso` if the manifest of another corpus has fewer than
    10 speakers.
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


def _folds(groups: Groups, plans: Sequence[Plan]) -> list[tuple[Fold, Note | None]]:
    """Apply the rule: drop rows of dev whose speaker is in test, and rows of training tied to either."""
    rows = groups.manifest.by_id()
    speaker = {name: row.speaker for name, row in rows.items()}
    session = {name: key_of(row, "session") for name, row in rows.items()}
    tied = {name: ({speaker[i] for i in ids}, {session[i] for i in ids} - {""}) for name, ids in groups.ids.items()}
    made: list[tuple[Fold, Note | None]] = []
    for index, plan in enumerate(plans):
        dropped: list[str] = []
        directions = []
        for name, dev_groups, test_groups in plan.directions:
            test = [utterance for group in test_groups for utterance in groups.ids[group]]
            tested = {speaker[utterance] for utterance in test}
            dev: list[str] = []
            for utterance in chain.from_iterable(groups.ids[group] for group in dev_groups):
                (dropped if speaker[utterance] in tested else dev).append(utterance)
            directions.append(Direction(name, tuple(dev), tuple(test)))
        held = [utterance for one in directions for utterance in (*one.dev, *one.test)]
        speakers = {speaker[utterance] for utterance in held}
        sessions = {session[utterance] for utterance in held} - {""}
        train: list[str] = []
        for group in plan.train:
            if tied[group][0].isdisjoint(speakers) and tied[group][1].isdisjoint(sessions):
                train += groups.ids[group]
                continue
            for utterance in groups.ids[group]:
                leaks = speaker[utterance] in speakers or session[utterance] in sessions
                (dropped if leaks else train).append(utterance)
        note = None
        if dropped:
            who = ", ".join(sorted({speaker[name] for name in dropped}, key=natural))
            message = f"fold {index}: {len(dropped)} utterances of {who} are left out: session or speaker is held out"
            note = Note("left_out", message, tuple(dropped))
        made.append((Fold(index, tuple(train), tuple(directions)), note))
    return made


def _given(manifest: Manifest, column: str | None) -> Made:
    if not column:
        raise ConfigError("given needs the name of a column", mend="For example --column part.")
    members: dict[str, list[str]] = {}
    for row in manifest:
        members.setdefault(plain(row.get(column)), []).append(row.id)
    bare = members.pop("", [])
    notes = [Note("unused", f"{len(bare)} utterances have no value in '{column}'", tuple(bare))] if bare else []
    if members and all(value.lower() in PARTS for value in members):
        parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
        for value, ids in members.items():
            parts[PARTS[value.lower()]] += ids
        absent = [part for part, ids in parts.items() if not ids]
        if absent:
            mend = "Write train, dev (selects the epoch) and test, without common speakers."
            raise SplitError(f"the column '{column}' marks no utterance as {' or '.join(absent)}", mend=mend)
        direction = Direction("test", tuple(parts["dev"]), tuple(parts["test"]))
        return [(Fold(0, tuple(parts["train"]), (direction,)), None)], notes
    names = sorted(members, key=natural)
    if known := [name for name in names if name.lower() in PARTS]:  # as folds, training speakers would be tested
        others = ", ".join(f"'{name}' ({len(members[name])})" for name in names if name not in known)
        mend = "Write train, dev or test in every row (nothing for unused rows), or names of folds only."
        raise SplitError(f"the column '{column}' marks utterances as {', '.join(known)}, and as {others}", mend=mend)
    if len(names) < 3:
        what = f"the column '{column}' has {len(names)} values ({', '.join(names)}); folds need at least 3"
        raise SplitError(what, mend="Use the values train, dev and test, or name at least three folds.")
    made: list[tuple[Fold, Note | None]] = []
    for index, name in enumerate(names):
        following = names[(index + 1) % len(names)]
        train = tuple(i for value in names if value not in (name, following) for i in members[value])
        made.append((Fold(index, train, (Direction("test", tuple(members[following]), tuple(members[name])),)), None))
    return made, notes


# Orders that are the same on every machine: natural order, seeded order, and groups tied to each other.

T = TypeVar("T")


def known_gender(word: str) -> str:
    """Return `female` or `male` for their usual spellings, '' for any other word."""
    gender = canonical_gender(word)
    return gender if gender in ("female", "male") else ""


def natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sorting key under which speaker 2 comes before speaker 10."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts if p], text


def shuffled(items: Sequence[T], seed: str) -> list[T]:
    """Return the items in a seeded order.

    Sorts by draws of `random.Random(seed).random()`, the one sequence that Python keeps between versions and platforms;
    a text seed does not depend on `PYTHONHASHSEED`.
    """
    draw = random.Random(seed)
    return [item for _, item in sorted(((draw.random(), item) for item in items), key=lambda pair: pair[0])]


def in_turn(strata: Iterable[Sequence[T]]) -> list[T]:
    """Return the first of every stratum, then the second of every stratum, and so on."""
    gap = object()
    return [item for item in chain.from_iterable(zip_longest(*strata, fillvalue=gap)) if item is not gap]  # type: ignore[misc]


class Groups:
    """The groups of a manifest in natural order, with their utterances, genders and `blocks` of tied groups.

    Two groups are tied if they share a session or, if the group is not the speaker, a speaker.
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
                what = f"utterance '{row.id}' has no value in the group column '{group}'"
                raise SplitError(what, mend="Fill the column, or choose another with --group.")
            self.ids[name].append(row.id)
            self._genders[name].add(known_gender(row.gender))
            ties["speaker", row.speaker].add(name)
            if session := key_of(row, "session"):
                ties["session", session].add(name)
        self.names: list[str] = sorted(self.ids, key=natural)
        self.blocks: list[list[str]] = components(self.names, ties.values())

    def gender(self, name: str) -> str:
        """Return `female`, `male`, '' if unknown, `female+male` if the group has both."""
        return "+".join(sorted(self._genders[name]))

    def stratum(self, block: Sequence[str]) -> str:
        """Return the genders in a block of groups, by which it is stratified."""
        return "+".join(sorted({self.gender(name) for name in block}))

    def shuffled_strata(self, blocks: Sequence[list[str]], seed: str) -> list[list[list[str]]]:
        """Return the blocks by stratum (in alphabetical order), in seeded order within each."""
        strata: dict[str, list[list[str]]] = defaultdict(list)
        for block in blocks:
            strata[self.stratum(block)].append(block)
        return [shuffled(strata[name], f"{seed}/{name}") for name in sorted(strata)]

    def in_seeded_order(self, seed: str) -> list[str]:
        """Return the groups in seeded order; tied ones stand side by side, so that few are dropped from training."""
        return [name for block in shuffled(self.blocks, seed) for name in block]


def components(names: Sequence[str], ties: Iterable[Iterable[str]]) -> list[list[str]]:
    """Return the sets of `names` that `ties` connect; names, and sets by their first name, keep their order."""
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


# The groups of each protocol


def _need(groups: Groups, least: int, protocol: str) -> None:
    if len(groups.names) < least:
        what = f"{protocol} needs at least {least} values of '{groups.column}', here are {len(groups.names)}"
        raise SplitError(what, mend="Add speakers, or choose a protocol that needs fewer.")


def _others(groups: Groups, held: Iterable[str]) -> list[str]:
    held = set(held)
    return [name for name in groups.names if name not in held]


def _paired(groups: Groups, test: str) -> Plans:
    if test not in ("both", "male", "female"):
        raise ConfigError(f"unknown test '{test}'", mend=did_you_mean(test, ("both", "male", "female")))
    unknown = [name for name in groups.names if groups.gender(name) not in ("female", "male")]
    if unknown:
        raise SplitError(
            f"paired needs one gender, female or male, for every {groups.column}; {len(unknown)} have none or two, "
            f"{unknown[0]} first",
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
            f"paired needs a female, a male and at least one more {groups.column} to train on; the manifest has "
            f"{len(groups.names)} and {len(pairs)} pairs",
            mend="Use the protocol kfold or loso, or add speakers.",
        )
    plans = []
    for woman, man in pairs:
        directions = {"male": ([woman], [man]), "female": ([man], [woman])}
        chosen = ("male", "female") if test == "both" else (test,)
        plans.append(Plan(_others(groups, (woman, man)), [(name, *directions[name]) for name in chosen]))
    single = _others(groups, (name for pair in pairs for name in pair))
    note = Note("unpaired", f"{len(single)} without a partner always train: {', '.join(single)}")
    return plans, [note] if single else []


def _kfold(groups: Groups, k: int, salt: str) -> Plans:
    if k < 3:
        raise ConfigError(f"kfold needs k of at least 3, not {k}", mend="One part tests, one validates, one trains.")
    _need(groups, k, f"kfold with k = {k}")
    blocks = groups.blocks if len(groups.blocks) >= k else [[name] for name in groups.names]
    parts: list[list[str]] = [[] for _ in range(k)]
    # dealt stratum after stratum: the sizes of the parts, in each stratum and in all, differ by one block at most
    for place, block in enumerate(chain.from_iterable(groups.shuffled_strata(blocks, salt))):
        parts[place % k] += block
    plans = []
    for f in range(k):
        dev, held = parts[(f + 1) % k], parts[f]
        plans.append(Plan(_others(groups, (*dev, *held)), [("test", dev, held)]))
    unknown = sum(groups.gender(name) not in ("female", "male") for name in groups.names)
    note = Note("gender_unknown", f"{unknown} of {len(groups.names)} speakers are not stratified: no single gender")
    return plans, [note] if unknown and groups.column == "speaker" else []


def _loso(groups: Groups, salt: str) -> Plans:
    _need(groups, 4, "loso")
    order = groups.in_seeded_order(salt)
    plans = []
    for place, held in enumerate(order):
        dev = [order[(place + step) % len(order)] for step in (1, 2)]
        plans.append(Plan(_others(groups, (*dev, held)), [("test", dev, [held])]))
    return plans, []


def _random(groups: Groups, n: tuple[int, int, int] | None, salt: str) -> Plans:
    total = len(groups.names)
    if n is None:
        tenth = max(1, round(total / 10))
        n = (max(1, total - 2 * tenth), tenth, tenth)
    if len(n) != 3 or min(n) < 1:
        raise ConfigError(f"n is (train, dev, test), each at least 1, not {n}", mend="For example n = (200, 25, 25).")
    _need(groups, sum(n), f"random with n = {n[0]}/{n[1]}/{n[2]}")
    order = groups.in_seeded_order(salt)
    train, dev, held = order[: n[0]], order[n[0] : n[0] + n[1]], order[n[0] + n[1] : sum(n)]
    note = Note("unused", f"{total - sum(n)} values of '{groups.column}' are not used")
    return [Plan(train, [("test", dev, held)])], [note] if total > sum(n) else []


def _corpora(
    manifest: Manifest, train_corpora: Iterable[str] | None, test_corpora: Iterable[str] | None
) -> tuple[set[str], set[str]]:
    """Return the corpora that `cross` trains on and tests."""
    known = sorted({row.corpus for row in manifest})
    tested = set(test_corpora or ())
    trained = set(known) - tested if train_corpora is None else set(train_corpora)
    for name in sorted(tested | trained):
        if name not in known:
            raise ConfigError(f"the manifest has no corpus '{name}'", mend=did_you_mean(name, known))
    if not tested or not trained or tested & trained:
        what = f"cross trains on {sorted(trained)} and tests on {sorted(tested)}: each needs a corpus, none in common"
        raise ConfigError(what, mend="Name them with train_corpora and test_corpora.")
    return trained, tested


def _cross(groups: Groups, trained: set[str], tested: set[str], salt: str) -> Plans:
    """One fold; `groups` have rows of the trained and tested corpora only."""
    corpora_of: dict[str, set[str]] = {name: set() for name in groups.names}
    for row in groups.manifest:
        corpora_of[key_of(row, groups.column)].add(row.corpus)
    both = [name for name, corpora in corpora_of.items() if corpora & trained and corpora & tested]
    if both:
        mend = "If two corpora only share the name, read them together with Manifest.concat."
        raise SplitError(f"{groups.column} {both[0]} is in a training and in a test corpus", mend=mend)
    pool = [name for name in groups.names if corpora_of[name] & trained]
    count = max(2, ceil(len(pool) / 10))
    if len(pool) < count + 1:
        what = f"cross needs 3 values of '{groups.column}' to train and validate on, here are {len(pool)}"
        raise SplitError(what, mend="Add a corpus to train on.")
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
    note = Note("cross_dev", f"{len(dev)} of {len(pool)} from the training corpora validate: {', '.join(dev)}")
    return [Plan(train, [("test", dev, held)])], [note]


def _leave_corpus_out(groups: Groups, seed: int) -> Plans:
    corpora = sorted({row.corpus for row in groups.manifest})
    if len(corpora) < 2 or not corpora[0]:
        raise SplitError(
            "leave-corpus-out needs at least 2 corpora and a corpus for every row, here are: "
            + ", ".join(map(repr, corpora)),
            mend="Fill the column 'corpus', or choose another protocol.",
        )
    plans: list[Plan] = []
    notes: list[Note] = []
    for corpus in corpora:
        own, (note,) = _cross(groups, set(corpora) - {corpus}, {corpus}, f"cross/{seed}")
        plans += own
        notes.append(Note(note.kind, f"test on {corpus}: {note.message}"))
    return plans, notes
