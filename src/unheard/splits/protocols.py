"""Protocols: the assignment of speakers to training, validation and test.

One rule keeps all protocols except `given` free of leaks: a fold drops dev rows whose speaker is in test, and training
rows whose group, speaker or session is in dev or test. A note of the split counts them. To drop few rows, groups that
share a session are adjacent in seeded orders and move together in `kfold`. `given` follows the user's column and raises
`SplitError` if it leaks.
"""

import random
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from math import ceil
from typing import TypeVar

from unheard.corpora.rows import canonical_gender
from unheard.errors import ConfigError, SplitError, counted, did_you_mean
from unheard.manifest import Manifest, Note, plain
from unheard.splits.split import Direction, Fold, Split, identity_of, key_of

PROTOCOLS = ("paired", "kfold", "loso", "random", "given", "cross", "leave-corpus-out")
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "test1", "test2", "test3"), "test"),
}
"""Words for the three parts in files and columns; MSP-Podcast numbers its test sets."""

Plans = tuple[list[Fold], list[Note]]
"""Folds of groups (in `given`: of ids) before the rule above is applied, and notes on rows left out."""


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

    - `paired`: hold out the i-th female and the i-th male by id, or the pair of a session if sessions have both. With
      `test="both"` a fold has the directions "male" (dev female, test male) and "female"; with "male" or "female" only
      that direction. Speakers without a partner always train.
    - `kfold`: `k` gender-stratified parts; fold f tests part f and validates on part f+1 (mod k).
    - `loso`: each group tests once; the next two in seeded order validate.
    - `random`: one fold with `n` = (train, dev, test) groups; by default a tenth, at least one, for dev and test each.
    - `given`: `column` holds train, dev or test (or val, valid...) for a single fold; or names of folds, each of which
      is tested once while the next in natural order validates. Rows without a value are not used. Raises `SplitError`
      for a column with both parts and other words.
    - `cross`: train on `train_corpora` (default: all but the tested ones), test on `test_corpora`, validate on a tenth
      (at least 2) of the groups of the training corpora, drawn evenly over corpora and genders.
    - `leave-corpus-out`: one fold per corpus, in alphabetical order: as in `cross`, test it and train on all others.

    `folds` keeps only the first folds. Raises `SplitError` if the manifest does not allow the split or the split leaks,
    and `ConfigError` for an unknown protocol or option.
    """
    if not isinstance(manifest, Manifest):
        what = f"a split is made of a Manifest, not of a {type(manifest).__name__}"
        raise ConfigError(what, mend="Read the table or path first: unheard.read_manifest(...).")
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol '{protocol}'", mend=did_you_mean(protocol, PROTOCOLS))
    groups = None
    if protocol == "given":
        plans, notes = _given(manifest, column)
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
        if len(used) < len(manifest):
            notes.append(Note("unused", f"{counted(len(manifest) - len(used), 'utterance')} of other corpora not used"))
    if folds is not None and not 1 <= folds <= len(plans):
        raise ConfigError(f"{folds} folds asked for, {protocol} has {len(plans)} here", mend="Ask for fewer.")
    used_folds = []
    for index, fold in enumerate(plans[:folds]):
        if groups is not None:
            fold, dropped = groups.without_leaks(fold)
            if dropped:
                names = ", ".join(sorted({groups.speaker[name] for name in dropped}, key=natural))
                utterances = f"{counted(len(dropped), 'utterance')} of {names}"
                what = f"fold {index}: {utterances} left out with its session or speaker"
                notes.append(Note("left_out", what, tuple(dropped)))
        used_folds.append(replace(fold, index=index))
    return Split(manifest, protocol, tuple(used_folds), group, seed, len(plans), tuple(notes), emotions_may_differ)


def default_protocol(corpus: str, manifest: Manifest | None = None) -> tuple[str, dict[str, object]]:
    """Return the default protocol of a corpus and its options.

    IEMOCAP and EmoDB: `paired` in both directions; RAVDESS and nEMO: `kfold` 6; the synthetic corpus: `given` with the
    column `part`; ASED, CREMA-D and all others: `kfold` 5, or `loso` for a manifest of another corpus with fewer than
    10 speakers.
    """
    defaults: dict[str, tuple[str, dict[str, object]]] = {
        **dict.fromkeys(("iemocap", "emodb"), ("paired", {"test": "both"})),
        **dict.fromkeys(("ravdess", "nemo"), ("kfold", {"k": 6})),
        **dict.fromkeys(("ased", "crema-d"), ("kfold", {"k": 5})),
    }
    if corpus == "synthetic" and (manifest is None or all("part" in row.extra for row in manifest)):
        return "given", {"column": "part"}
    few = manifest is not None and len(manifest.speakers) < 10
    return defaults.get(corpus, ("loso", {}) if few else ("kfold", {"k": 5}))


# Machine-independent orders: natural order, seeded order, and groups tied to each other.

T = TypeVar("T")


def known_gender(word: str) -> str:
    """Return `female` or `male` for the usual spellings, '' for any other word."""
    gender = canonical_gender(word)
    return gender if gender in ("female", "male") else ""


def natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key for natural order, in which speaker 2 precedes speaker 10."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts if p], text


def shuffled(items: Sequence[T], seed: str) -> list[T]:
    """Return the items in a seeded order.

    Only the sequence of `random.Random(seed).random()` is the same in all versions of Python and on all platforms; a
    text seed does not depend on `PYTHONHASHSEED`.
    """
    generator = random.Random(seed)
    return sorted(items, key=lambda _: generator.random())


def components(names: Sequence[str], ties: Iterable[Iterable[str]]) -> list[list[str]]:
    """Return the sets of `names` connected by `ties`; names, and sets by their first name, keep their order."""
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


class Groups:
    """The groups of a manifest in natural order, with their utterances, genders and `blocks` of tied groups.

    Two groups are tied if they share a session or, if the group is not the speaker, a speaker.
    """

    def __init__(self, manifest: Manifest, group: str) -> None:
        self.manifest, self.column = manifest, group
        self.speaker = {row.id: row.speaker for row in manifest}
        self.session = {row.id: identity_of(row, "session") for row in manifest}
        self.ids: dict[str, list[str]] = defaultdict(list)
        self._genders: dict[str, set[str]] = defaultdict(set)
        ties: dict[Hashable, set[str]] = defaultdict(set)
        spelt: dict[str, str] = {}
        for row in manifest:
            name = spelt.setdefault(identity_of(row, group), key_of(row, group))
            if not name:
                what = f"utterance '{row.id}' has no value in the group column '{group}'"
                raise SplitError(what, mend="Fill the column, or choose another with --group.")
            self.ids[name].append(row.id)
            self._genders[name].add(known_gender(row.gender))
            ties["speaker", row.speaker].add(name)
            if session := self.session[row.id]:
                ties["session", session].add(name)
        self.names: list[str] = sorted(self.ids, key=natural)
        self.blocks: list[list[str]] = components(self.names, ties.values())

    def gender(self, *names: str) -> str:
        """Return `female`, `male`, '' if unknown, `female+male` if the groups have both."""
        return "+".join(sorted({"+".join(sorted(self._genders[name])) for name in names}))

    def shuffled_strata(self, blocks: Sequence[list[str]], seed: str) -> list[list[list[str]]]:
        """Return the blocks by gender (in alphabetical order), in seeded order within a gender."""
        strata: dict[str, list[list[str]]] = defaultdict(list)
        for block in blocks:
            strata[self.gender(*block)].append(block)
        return [shuffled(strata[name], f"{seed}/{name}") for name in sorted(strata)]

    def in_seeded_order(self, seed: str) -> list[str]:
        """Return the groups in seeded order; tied groups are adjacent, so that few are dropped from training."""
        return [name for block in shuffled(self.blocks, seed) for name in block]

    def need(self, least: int, protocol: str) -> None:
        """Raise `SplitError` if there are fewer than `least` groups."""
        if len(self.names) < least:
            what = f"{protocol} needs at least {least} values of '{self.column}', here are {len(self.names)}"
            raise SplitError(what, mend="Add speakers, or choose a protocol that needs fewer.")

    def fold(self, *directions: tuple[str, Sequence[str], Sequence[str]]) -> Fold:
        """Return the fold with these directions (name, dev, test), in which all other groups train."""
        folded = tuple(Direction(name, tuple(dev), tuple(test)) for name, dev, test in directions)
        held_out = {name for direction in folded for name in (*direction.dev, *direction.test)}
        return Fold(0, tuple(name for name in self.names if name not in held_out), folded)

    def without_leaks(self, fold: Fold) -> tuple[Fold, list[str]]:
        """Return the fold without dev rows whose speaker is in test and training rows tied to either; and those ids."""
        dropped: list[str] = []

        def safe_ids(groups: Iterable[str], speakers: set[str], sessions: Iterable[str] = ()) -> tuple[str, ...]:
            safe: list[str] = []
            for name in chain.from_iterable(self.ids[group] for group in groups):
                leaks = self.speaker[name] in speakers or self.session[name] in sessions
                (dropped if leaks else safe).append(name)
            return tuple(safe)

        directions = []
        for d in fold.directions:
            test = safe_ids(d.test, set())
            directions.append(Direction(d.name, safe_ids(d.dev, {self.speaker[name] for name in test}), test))
        held_out = [name for d in directions for name in (*d.dev, *d.test)]
        sessions = {self.session[name] for name in held_out} - {""}
        train = safe_ids(fold.train, {self.speaker[name] for name in held_out}, sessions)
        return Fold(fold.index, train, tuple(directions)), dropped


# The protocols.


def _given(manifest: Manifest, column: str | None) -> Plans:
    if not column:
        raise ConfigError("given needs the name of a column", mend="For example --column part.")
    members: dict[str, list[str]] = {}
    for row in manifest:
        members.setdefault(plain(row.get(column)), []).append(row.id)
    bare = members.pop("", [])
    notes = [Note("unused", f"{counted(len(bare), 'utterance')} without '{column}'", tuple(bare))] if bare else []
    names = sorted(members, key=natural)
    marks = [name for name in names if name.lower() in PARTS]
    if names and marks == names:
        parts: dict[str, tuple[str, ...]] = {"train": (), "dev": (), "test": ()}
        for value, ids in members.items():
            parts[PARTS[value.lower()]] += tuple(ids)
        if absent := [part for part, ids in parts.items() if not ids]:
            mend = "Write train, dev (selects the epoch) and test, without common speakers."
            raise SplitError(f"the column '{column}' marks no utterance as {' or '.join(absent)}", mend=mend)
        return [Fold(0, parts["train"], (Direction("test", parts["dev"], parts["test"]),))], notes
    if marks:  # as folds, training speakers would be tested
        others = ", ".join(f"'{name}' ({len(members[name])})" for name in names if name not in marks)
        mend = "Write train, dev or test in every row (nothing for unused rows), or names of folds only."
        raise SplitError(f"the column '{column}' marks utterances as {', '.join(marks)}, and as {others}", mend=mend)
    if len(names) < 3:
        what = f"the column '{column}' has {len(names)} values ({', '.join(names)}); folds need at least 3"
        raise SplitError(what, mend="Use the values train, dev and test, or name at least three folds.")
    plans = []
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        train = tuple(i for value in names if value not in (name, following) for i in members[value])
        plans.append(Fold(0, train, (Direction("test", tuple(members[following]), tuple(members[name])),)))
    return plans, notes


def _paired(groups: Groups, test: str) -> Plans:
    if test not in ("both", "male", "female"):
        raise ConfigError(f"unknown test '{test}'", mend=did_you_mean(test, ("both", "male", "female")))
    if unknown := [name for name in groups.names if groups.gender(name) not in ("female", "male")]:
        what = f"paired needs one gender, female or male, for every {groups.column}; {len(unknown)} have none or two"
        raise SplitError(f"{what}, {unknown[0]} first", mend="Fill the column 'gender', or use the protocol kfold.")
    by_session = any(groups.gender(*block) == "female+male" for block in groups.blocks)
    pairs: list[tuple[str, str]] = []
    for block in groups.blocks if by_session else [groups.names]:
        women, men = ([name for name in block if groups.gender(name) == sex] for sex in ("female", "male"))
        pairs += zip(women, men, strict=False)
    if not pairs or len(groups.names) < 3:
        what = f"paired needs a female, a male and at least one more {groups.column} to train on; the manifest has "
        what += f"{len(groups.names)} and {len(pairs)} pairs"
        raise SplitError(what, mend="Use the protocol kfold or loso, or add speakers.")
    folds = [groups.fold(("male", [woman], [man]), ("female", [man], [woman])) for woman, man in pairs]
    plans = [replace(fold, directions=tuple(d for d in fold.directions if test in ("both", d.name))) for fold in folds]
    single = groups.fold(*(("", [woman], [man]) for woman, man in pairs)).train
    note = Note("unpaired", f"{len(single)} without a partner always train: {', '.join(single)}")
    return plans, [note] if single else []


def _kfold(groups: Groups, k: int, salt: str) -> Plans:
    if k < 3:
        raise ConfigError(f"kfold needs k of at least 3, not {k}", mend="One part tests, one validates, one trains.")
    groups.need(k, f"kfold with k = {k}")
    blocks = groups.blocks if len(groups.blocks) >= k else [[name] for name in groups.names]
    parts: list[list[str]] = [[] for _ in range(k)]
    # dealt stratum by stratum, so that sizes of parts, in each stratum and in total, differ by at most one block
    for i, block in enumerate(chain.from_iterable(groups.shuffled_strata(blocks, salt))):
        parts[i % k] += block
    unknown = sum(groups.gender(name) not in ("female", "male") for name in groups.names)
    note = Note(
        "gender_unknown", f"speakers without gender: {unknown} of {len(groups.names)}: folds are not stratified"
    )
    plans = [groups.fold(("test", parts[(f + 1) % k], parts[f])) for f in range(k)]
    return plans, [note] if unknown and groups.column == "speaker" else []


def _loso(groups: Groups, salt: str) -> Plans:
    groups.need(4, "loso")
    order = groups.in_seeded_order(salt)
    following = zip(order, order[1:] + order[:1], order[2:] + order[:2], strict=True)
    return [groups.fold(("test", dev, [tested])) for tested, *dev in following], []


def _random(groups: Groups, n: tuple[int, int, int] | None, salt: str) -> Plans:
    total = len(groups.names)
    if n is None:
        tenth = max(1, round(total / 10))
        n = (max(1, total - 2 * tenth), tenth, tenth)
    if len(n) != 3 or min(n) < 1:
        raise ConfigError(f"n is (train, dev, test), each at least 1, not {n}", mend="For example n = (200, 25, 25).")
    groups.need(sum(n), f"random with n = {n[0]}/{n[1]}/{n[2]}")
    order = groups.in_seeded_order(salt)
    train, dev, test = (tuple(order[sum(n[:part]) : sum(n[: part + 1])]) for part in range(3))
    note = Note("unused", f"{counted(total - sum(n), 'value')} of '{groups.column}' not used")
    return [Fold(0, train, (Direction("test", dev, test),))], [note] if total > sum(n) else []


def _corpora(
    manifest: Manifest, train_corpora: Iterable[str] | None, test_corpora: Iterable[str] | None
) -> tuple[set[str], set[str]]:
    """Return the corpora that `cross` trains on and tests."""
    corpora = sorted({row.corpus for row in manifest})
    tested = set(test_corpora or ())
    trained = set(corpora) - tested if train_corpora is None else set(train_corpora)
    for name in sorted(tested | trained):
        if name not in corpora:
            raise ConfigError(f"the manifest has no corpus '{name}'", mend=did_you_mean(name, corpora))
    if not tested or not trained or tested & trained:
        what = f"cross trains on {sorted(trained)} and tests on {sorted(tested)}: each needs a corpus, none in common"
        raise ConfigError(what, mend="Name them with train_corpora and test_corpora.")
    return trained, tested


def _cross(groups: Groups, trained: set[str], tested: set[str], salt: str) -> Plans:
    """Return a fold; `groups` must only have rows of the corpora `trained` and `tested`."""
    rows = groups.manifest.by_id()
    corpora_of = {name: {rows[row].corpus for row in groups.ids[name]} for name in groups.names}
    for name, corpora in corpora_of.items():
        if corpora & trained and corpora & tested:
            mend = "If two corpora only share the name, read them together with Manifest.concat."
            raise SplitError(f"{groups.column} {name} is in a training and in a test corpus", mend=mend)
    pool = [name for name in groups.names if corpora_of[name] & trained]
    count = max(2, ceil(len(pool) / 10))
    if len(pool) < count + 1:
        what = f"cross needs 3 values of '{groups.column}' to train and validate on, here are {len(pool)}"
        raise SplitError(what, mend="Add a corpus to train on.")
    strata = []
    for corpus in sorted(trained):
        blocks = [[name] for name in pool if min(corpora_of[name] & trained) == corpus]
        strata += groups.shuffled_strata(blocks, f"{salt}/{corpus}")
    in_turn = filter(None, chain.from_iterable(zip_longest(*strata)))  # the first of each stratum, then the second
    dev = [name for block in list(in_turn)[:count] for name in block]
    test = [name for name in groups.names if corpora_of[name] & tested]
    note = Note("cross_dev", f"{len(dev)} of {len(pool)} from the training corpora validate: {', '.join(dev)}")
    return [groups.fold(("test", dev, test))], [note]


def _leave_corpus_out(groups: Groups, seed: int) -> Plans:
    corpora = sorted({row.corpus for row in groups.manifest})
    if len(corpora) < 2 or not corpora[0]:
        what = f"leave-corpus-out needs at least 2 corpora and a corpus for every row, here are: {str(corpora)[1:-1]}"
        raise SplitError(what, mend="Fill the column 'corpus', or choose another protocol.")
    made = [(corpus, _cross(groups, set(corpora) - {corpus}, {corpus}, f"cross/{seed}")) for corpus in corpora]
    notes = [Note(note.kind, f"test on {corpus}: {note.message}") for corpus, (_, (note,)) in made]
    return [plan for _, ((plan,), _) in made], notes
