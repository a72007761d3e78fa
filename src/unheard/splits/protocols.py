"""The protocols: who trains, who validates, who is tested.

One rule keeps every protocol but `given` leak-free: **test is never touched; dev gives way to test; training
gives way to both.** Rows of dev whose speaker is in test, and rows of training whose group, speaker or
session is in dev or test (an IEMOCAP speaker's session partner, say), are left out of that fold, and a note
of the split counts them. So that little has to be left out, groups that share a session stand side by side in
seeded orders and move together in `kfold`. `given` is the user's word: it raises where it leaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unheard.errors import ConfigError, SplitError, did_you_mean
from unheard.manifest import Manifest, Note, Utterance, plain
from unheard.splits import plan
from unheard.splits.order import Groups, natural
from unheard.splits.split import Fold, Reading, Split, key_of

PROTOCOLS = ("paired", "kfold", "loso", "random", "given", "cross")
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
    """Split `manifest` by `group` with one of the six protocols; equal arguments give an equal split.

    - `paired`: the i-th female and the i-th male by id are held out; where sessions hold both, of
      the session. `test="both"` reads a fold twice, reading "male" (dev female, test male) and "female";
      `"male"` or `"female"` reads it once, in a reading of that name. Who has no partner always trains.
    - `kfold`: `k` gender-stratified parts; fold f tests part f and validates on part f+1 (mod k).
    - `loso`: each group tests once, the next two in seeded order validate.
    - `random`: `n` = (train, dev, test) groups, one fold; without `n` a tenth, at least one,
      each for dev and test.
    - `given`: `column` holds train | dev | test (or val, valid…): one fold; or the name of a fold:
      each value is tested once and the next, in natural order, validates. Rows with no value are left out. A
      column that holds both, parts and other words, is refused.
    - `cross`: train on `train_corpora` (all but the tested ones by default), test on `test_corpora`, validate
      on a tenth (at least 2) of the training corpora's groups, drawn evenly over corpora and genders.

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
            trained, tested = plan.corpora(manifest, train_corpora, test_corpora)
            taking_part = manifest.where(lambda row: row.corpus in trained | tested)
        groups = Groups(taking_part, group)
        salt = f"{protocol}/{seed}"
        if protocol == "paired":
            plans = plan.paired(groups, test)
        elif protocol == "kfold":
            plans = plan.kfold(groups, k, salt)
        elif protocol == "loso":
            plans = plan.loso(groups, salt)
        elif protocol == "random":
            plans = plan.random(groups, n, salt)
        else:
            plans = plan.cross(groups, trained, tested, salt)
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

    IEMOCAP and EmoDB: `paired`, both directions; RAVDESS: `kfold` 6; the synthetic corpus: `given` by its
    column `part`; everything else, ASED and CREMA-D included: `kfold` 5, or `loso` where `manifest` has fewer
    than 10 speakers.
    """
    if corpus in ("iemocap", "emodb"):
        return "paired", {"test": "both"}
    if corpus == "ravdess":
        return "kfold", {"k": 6}
    if corpus == "synthetic" and (manifest is None or all("part" in row.extra for row in manifest)):
        return "given", {"column": "part"}
    if corpus not in ("ased", "crema-d") and manifest is not None and len(manifest.speakers) < 10:
        return "loso", {}
    return "kfold", {"k": 5}


def _carry_out(groups: Groups, plans: plan.Plans) -> tuple[list[tuple[Fold, Note | None]], list[Note]]:
    """Ids of every fold under the rule: dev gives way to test, training to both."""
    rows = groups.manifest.by_id()
    speaker = {name: row.speaker for name, row in rows.items()}
    session = {name: key_of(row, "session") for name, row in rows.items()}
    tied = {name: ({speaker[i] for i in ids}, {session[i] for i in ids} - {""}) for name, ids in groups.ids.items()}
    made: list[tuple[Fold, Note | None]] = []
    for index, held in enumerate(plans.folds):
        gone: list[str] = []
        readings = []
        speakers: set[str] = set()
        sessions: set[str] = set()
        for name, dev_groups, test_groups in held.readings:
            test = [utterance for group in test_groups for utterance in groups.ids[group]]
            tested = {speaker[utterance] for utterance in test}
            offered = [utterance for group in dev_groups for utterance in groups.ids[group]]
            dev = [utterance for utterance in offered if speaker[utterance] not in tested]
            gone += [utterance for utterance in offered if speaker[utterance] in tested]
            readings.append(Reading(name, tuple(dev), tuple(test)))
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
        made.append((Fold(index, tuple(train), tuple(readings)), _left_out(index, gone, rows)))
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
        reading = Reading("test", tuple(parts["dev"]), tuple(parts["test"]))
        return [(Fold(0, tuple(parts["train"]), (reading,)), None)], notes
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
        readings = (Reading("test", tuple(members[following]), tuple(members[name])),)
        made.append((Fold(index, train, readings), None))
    return made, notes
