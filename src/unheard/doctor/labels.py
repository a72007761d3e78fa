"""Findings from the table alone: imbalance, confounds, too few speakers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence

from unheard.doctor.findings import Finding, count, some
from unheard.manifest import Manifest, Utterance
from unheard.splits.speakers import is_unknown, lookalikes
from unheard.splits.split import key_of

IMBALANCE = 3.0  # largest emotion over smallest
FEW_SPEAKERS = 10
OVERLAP = 0.25  # seconds that two stretches of one recording may share: annotations are rarely exact
FEW_UTTERANCES = 5
CHANCE = 0.001  # a value of n rows with one emotion only is no accident below this probability
BETTER = 0.15  # balanced accuracy above chance by which a column alone may tell the emotion


def check_labels(manifest: Manifest) -> Iterator[Finding]:
    """Everything that can be said without listening."""
    emotions = manifest.counts()
    if len(emotions) < 2:
        yield Finding("error", "one_emotion", f"one emotion only: {some(list(emotions))}", (), "Nothing to tell apart.")
    yield from _balance(emotions)
    yield from _speakers(manifest)
    yield from _alike(manifest)
    yield from _overlaps(manifest)
    yield from _genders(manifest)
    if len(emotions) > 1:
        yield from _tied(manifest, "text", "sentence")
        yield from _tied(manifest, "session", "session")
        yield from check_predictable(manifest, "gender", [row.gender for row in manifest])
        yield from check_predictable(manifest, "language", [row.language for row in manifest])
        yield from check_predictable(manifest, "corpus", [row.corpus for row in manifest])
        yield from check_predictable(manifest, "channel", [row.channel for row in manifest])
        yield from check_predictable(manifest, "sentence (text)", [row.text for row in manifest])
        yield from check_predictable(manifest, "session", [key_of(row, "session") for row in manifest])


def _balance(emotions: dict[str, int]) -> Iterator[Finding]:
    if len(emotions) > 1 and max(emotions.values()) >= IMBALANCE * min(emotions.values()):
        most, least = max(emotions, key=emotions.__getitem__), min(emotions, key=emotions.__getitem__)
        yield Finding(
            "warning",
            "imbalance",
            f"{most} ({emotions[most]:,}) is {emotions[most] / emotions[least]:.1f} times as frequent as "
            f"{least} ({emotions[least]:,})",
            (),
            "Read UAR beside WA: always answering the most frequent emotion already scores "
            f"{max(emotions.values()) / sum(emotions.values()):.0%} WA.",
        )


def _speakers(manifest: Manifest) -> Iterator[Finding]:
    rows: dict[str, list[Utterance]] = defaultdict(list)
    for row in manifest:
        rows[row.speaker].append(row)
    number = len(rows)
    if number < 3:
        yield Finding(
            "error",
            "too_few_speakers",
            f"{count(number, 'speaker')}: training, validation and test need one each at least",
            (),
            "Add speakers; no split of these says anything about unheard voices.",
        )
    elif number < FEW_SPEAKERS:
        yield Finding(
            "warning",
            "few_speakers",
            f"{count(number, 'speaker')}: a difference between systems must be large to be seen on so few",
            (),
            "Use loso, and report every speaker.",
        )
    emotions = sorted({row.emotion for row in manifest})
    if len(emotions) > 1:
        single = [name for name, own in sorted(rows.items()) if len({row.emotion for row in own}) == 1]
        if single:
            yield Finding(
                "warning",
                "speaker_with_one_emotion",
                f"{count(len(single), 'speaker')} with one emotion only: "
                + some([f"{name} ({rows[name][0].emotion})" for name in single]),
                tuple(row.id for name in single for row in rows[name]),
                "Recognising these speakers is recognising their emotion; leave them out of test, at least.",
            )
    scarce = [name for name, own in sorted(rows.items()) if len(own) < FEW_UTTERANCES]
    if scarce:
        yield Finding(
            "note",
            "speaker_with_few_utterances",
            f"{count(len(scarce), 'speaker')} with fewer than {FEW_UTTERANCES} utterances: "
            + some([f"{name} ({len(rows[name])})" for name in scarce]),
            tuple(row.id for name in scarce for row in rows[name]),
            "Their own accuracy is too coarse to be read.",
        )
    for emotion in emotions:
        who = sorted({row.speaker for row in manifest if row.emotion == emotion})
        if len(who) < 3 <= number:
            yield Finding(
                "warning",
                "emotion_of_few_speakers",
                f"{emotion} is shown by {some(who)} only",
                tuple(row.id for row in manifest if row.emotion == emotion),
                "It cannot be trained, validated and tested on different speakers: leave it out or merge it.",
            )


def _alike(manifest: Manifest) -> Iterator[Finding]:
    """Speakers whose names look like one person's, and names that are no person."""
    same = lookalikes(manifest.speakers)
    if same:
        yield Finding(
            "warning",
            "speakers_alike",
            f"{count(len(same), 'speaker')} under names that look like one: {some([' and '.join(n) for n in same])}",
            tuple(row.id for row in manifest if any(row.speaker in several for several in same)),
            "If they are one person, write the name in one way: else the same voice trains and is tested.",
        )
    nobody = [name for name in manifest.speakers if is_unknown(name)]
    if nobody:
        ids = tuple(row.id for row in manifest if row.speaker in nobody)
        yield Finding(
            "warning",
            "unknown_speaker",
            f"{count(len(ids), 'utterance')} of an unknown speaker: {some([repr(name) for name in nobody])}",
            ids,
            "Whose voices these are is not known, so a split may leak: experiments drop these rows.",
        )


def _overlaps(manifest: Manifest) -> Iterator[Finding]:
    """Stretches of one recording that are in utterances of two speakers."""
    files: dict[str, list[Utterance]] = defaultdict(list)
    for row in manifest:
        if row.start or row.end is not None:  # whole recordings are compared by their sound
            files[row.audio].append(row)
    both: dict[str, Utterance] = {}
    for rows in files.values():
        if len({row.speaker for row in rows}) < 2:
            continue
        open_rows: list[Utterance] = []
        for row in sorted(rows, key=lambda row: (row.start, row.id)):
            open_rows = [one for one in open_rows if one.end is None or one.end > row.start + OVERLAP]
            for one in open_rows:
                channels = {one.channel, row.channel}
                if one.speaker != row.speaker and (len(channels) == 1 or channels & {"mix", "each"}):
                    both |= {one.id: one, row.id: row}
            open_rows.append(row)
    if both:
        who = sorted({row.speaker for row in both.values()})
        yield Finding(
            "warning",
            "overlap_across_speakers",
            f"{count(len(both), 'utterance')} of {some(who)} have sound in common with another speaker's",
            tuple(both),
            "A split may train on what it tests: give those who speak together a session, or cut the stretches apart.",
        )


def _genders(manifest: Manifest) -> Iterator[Finding]:
    genders: dict[str, set[str]] = defaultdict(set)
    for row in manifest:
        genders[row.speaker].add(row.gender)
    mixed = sorted(name for name, found in genders.items() if len(found) > 1)
    if mixed:
        yield Finding(
            "error",
            "speaker_with_two_genders",
            f"{count(len(mixed), 'speaker')} with more than one value of 'gender': {some(mixed)}",
            tuple(row.id for row in manifest if row.speaker in mixed),
            "Two people under one name, or a slip: correct the column.",
        )
    unknown = sorted(name for name, found in genders.items() if found == {""})
    if unknown:
        yield Finding(
            "note",
            "gender_unknown",
            f"{count(len(unknown), 'speaker')} without gender: {some(unknown)}",
            (),
            "The protocol paired needs it, kfold balances by it.",
        )
    both = {gender for found in genders.values() for gender in found} - {""}
    for emotion in sorted({row.emotion for row in manifest}):
        shown = {row.gender for row in manifest if row.emotion == emotion} - {""}
        if len(both) > 1 and len(shown) == 1:
            yield Finding(
                "warning",
                "emotion_of_one_gender",
                f"{emotion} is shown by {shown.pop()} speakers only",
                tuple(row.id for row in manifest if row.emotion == emotion),
                "The voice's gender tells the emotion: leave it out or merge it.",
            )


def _tied(manifest: Manifest, column: str, word: str) -> Iterator[Finding]:
    """Values of a column that have one emotion only, more often than chance would make them."""
    share = {emotion: number / len(manifest) for emotion, number in manifest.counts().items()}
    rows: dict[str, list[Utterance]] = defaultdict(list)
    for row in manifest:
        if key_of(row, column):
            rows[key_of(row, column)].append(row)
    tied = [
        value
        for value, own in sorted(rows.items())
        if len({row.emotion for row in own}) == 1 and share[own[0].emotion] ** (len(own) - 1) < CHANCE
    ]
    if tied:
        listed = [f"'{_short(value)}' ({rows[value][0].emotion}, {len(rows[value])})" for value in tied]
        yield Finding(
            "warning",
            f"{word}_tied_to_emotion",
            f"{count(len(tied), word)} of {len(rows)} with one emotion only: {some(listed)}",
            tuple(row.id for value in tied for row in rows[value]),
            f"A model may learn the {word} instead of the emotion; compare with a split or subset without them.",
        )


def check_predictable(
    manifest: Manifest, what: str, values: Sequence[Hashable], better: float = BETTER
) -> Iterator[Finding]:
    """Warn where `values` alone tell the emotion, by balanced leave-one-out accuracy of the commonest emotion.

    Leaving the row itself out keeps a column of unique values from looking perfect.
    """
    emotions = sorted({row.emotion for row in manifest})
    tables: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for row, value in zip(manifest, values, strict=True):
        tables[value][row.emotion] += 1
    if len(tables) < 2 or len(emotions) < 2:
        return
    totals = manifest.counts()
    right: Counter[str] = Counter()
    for row, value in zip(manifest, values, strict=True):
        own = tables[value]
        # Counts relative to each emotion's size: the answer of a classifier that treats all alike.
        scores = {e: (own[e] - (e == row.emotion)) / max(1, totals[e] - (e == row.emotion)) for e in emotions}
        best = max(scores.values())
        winners = [e for e in emotions if scores[e] == best]
        if row.emotion in winners:
            right[row.emotion] += 1 / len(winners)  # type: ignore[assignment]
    accuracy = sum(right[e] / totals[e] for e in emotions) / len(emotions)
    # Small tables look predictive by chance: ask for three standard errors as well.
    noise = 3 * (1 / len(emotions) * (1 - 1 / len(emotions)) / len(manifest)) ** 0.5
    if accuracy > 1 / len(emotions) + max(better, noise):
        yield Finding(
            "warning",
            "emotion_predictable",
            f"{what} alone tells the emotion with {accuracy:.0%} UAR (chance {1 / len(emotions):.0%})",
            (),
            "A model can score without hearing the emotion; balance the column or compare within its values.",
        )


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
