"""Findings from the table alone: imbalance, confounded labels, too few speakers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

from unheard.doctor.findings import Finding, finding, listed, listed_groups
from unheard.errors import counted, some
from unheard.manifest import Manifest, Utterance
from unheard.splits.speakers import is_unknown, lookalikes
from unheard.splits.split import key_of

IMBALANCE = 3.0  # largest emotion over smallest
FEW_SPEAKERS = 10
FEW_UTTERANCES = 5
OVERLAP = 0.25  # seconds that two segments of a recording may share: annotations are rarely exact
CHANCE = 0.001  # below this probability, a value whose rows all have one emotion is no accident
BETTER = 0.15  # balanced accuracy above chance from which a column predicts the emotion


def check_labels(manifest: Manifest) -> Iterator[Finding]:
    """Check everything that needs no audio."""
    emotions = manifest.counts()
    yield from _balance(emotions)
    yield from _speakers(manifest)
    yield from _overlaps(manifest)
    yield from _genders(manifest)
    if len(emotions) < 2:
        return
    for column, word in (("text", "sentence"), ("session", "session")):
        yield from _tied(manifest, column, word)
    for column in ("gender", "language", "corpus", "channel", "text", "session"):
        name = "sentence (text)" if column == "text" else column
        yield from check_predictable(manifest, name, [key_of(row, column) for row in manifest])


def _balance(emotions: dict[str, int]) -> Iterator[Finding]:
    if len(emotions) < 2:
        yield finding("error", "one_emotion", f"one emotion only: {some(list(emotions))}", "Add other emotions.")
        return
    most, least = max(emotions, key=emotions.__getitem__), min(emotions, key=emotions.__getitem__)
    ratio, share = emotions[most] / emotions[least], emotions[most] / sum(emotions.values())
    if ratio >= IMBALANCE:
        how_often = f"is {ratio:.1f} times as frequent as {least} ({emotions[least]:,})"
        mend = f"Report UAR beside WA: a classifier that always answers {most} has {share:.0%} WA."
        yield finding("warning", "imbalance", f"{most} ({emotions[most]:,}) {how_often}", mend)


def _by(manifest: Manifest, key: Callable[[Utterance], str]) -> dict[str, list[Utterance]]:
    """Return the rows of each value of `key`, sorted by value, without the empty value."""
    rows: dict[str, list[Utterance]] = defaultdict(list)
    for row in manifest:
        rows[key(row)].append(row)
    return {value: rows[value] for value in sorted(rows) if value}


def _one_emotion(rows: Sequence[Utterance]) -> bool:
    return len({row.emotion for row in rows}) == 1


def _speakers(manifest: Manifest) -> Iterator[Finding]:
    speakers, emotions = _by(manifest, lambda row: row.speaker), _by(manifest, lambda row: row.emotion)
    number = counted(len(speakers), "speaker")
    if len(speakers) < 3:
        message = f"{number}: training, validation and test each need at least one"
        yield finding("error", "too_few_speakers", message, "Add speakers.")
    elif len(speakers) < FEW_SPEAKERS:
        message = f"{number}: only large differences between systems can be detected"
        yield finding("warning", "few_speakers", message, "Use the protocol loso, and report each speaker.")
    single = {name: rows for name, rows in speakers.items() if len(emotions) > 1 and _one_emotion(rows)}
    kind, what = "speaker_with_one_emotion", "with one emotion only"
    mend = "For these speakers the voice reveals the emotion: leave them out, at least of the test set."
    yield from listed_groups("warning", kind, "speaker", what, single, mend, "{name} ({emotion})")
    scarce = {name: rows for name, rows in speakers.items() if len(rows) < FEW_UTTERANCES}
    kind, what = "speaker_with_few_utterances", f"with fewer than {FEW_UTTERANCES} utterances"
    mend = "Their individual accuracy is not meaningful."
    yield from listed_groups("note", kind, "speaker", what, scarce, mend, "{name} ({n})")
    for emotion, rows in emotions.items():
        who = sorted({row.speaker for row in rows})
        if len(who) < 3 <= len(speakers):
            mend = "It cannot be trained, validated and tested on different speakers: leave it out or merge it."
            yield finding("warning", "emotion_of_few_speakers", f"{emotion} occurs with {some(who)} only", mend, rows)
    same = {" and ".join(names): [row for row in manifest if row.speaker in names] for names in lookalikes(speakers)}
    mend = "If they are one person, use one name: otherwise the person is in training and in test."
    yield from listed_groups("warning", "speakers_alike", "speaker", "with names that look like one", same, mend)
    unknown = [name for name in speakers if is_unknown(name)]
    if unknown:
        rows = [row for row in manifest if row.speaker in unknown]
        message = f"{counted(len(rows), 'utterance')} of an unknown speaker: {some([repr(name) for name in unknown])}"
        mend = "A split with them may leak: experiments drop these rows."
        yield finding("warning", "unknown_speaker", message, mend, rows)


def _overlaps(manifest: Manifest) -> Iterator[Finding]:
    """Segments of one recording with different speakers that overlap in time."""
    parts = manifest.where(lambda row: row.start > 0 or row.end is not None)  # whole ones are compared by their samples
    both: dict[str, Utterance] = {}
    for rows in _by(parts, lambda row: row.audio).values():
        open_rows: list[Utterance] = []
        for row in sorted(rows, key=lambda row: (row.start, row.id)):
            open_rows = [one for one in open_rows if one.end is None or one.end > row.start + OVERLAP]
            for one in open_rows:
                channels = {one.channel, row.channel}
                if one.speaker != row.speaker and (len(channels) == 1 or channels & {"mix", "each"}):
                    both |= {one.id: one, row.id: row}
            open_rows.append(row)
    if both:
        who = some(sorted({row.speaker for row in both.values()}))
        message = f"{counted(len(both), 'utterance')} of {who} overlap with another speaker's"
        mend = "A split may share this audio: give these speakers one session, or cut the segments apart."
        yield finding("warning", "overlap_across_speakers", message, mend, both.values())


def _genders(manifest: Manifest) -> Iterator[Finding]:
    speakers = _by(manifest, lambda row: row.speaker)
    genders = {name: {row.gender for row in rows} for name, rows in speakers.items()}
    mixed = {name: speakers[name] for name, found in genders.items() if len(found) > 1}
    what, mend = "with more than one value of 'gender'", "Two people have one name, or the column is wrong: correct it."
    yield from listed_groups("error", "speaker_with_two_genders", "speaker", what, mixed, mend)
    unknown = [name for name, found in genders.items() if found == {""}]
    mend = "The protocol paired needs it; kfold stratifies by it."
    yield from listed("note", "gender_unknown", "speaker", "without gender", unknown, mend)
    if len({gender for found in genders.values() for gender in found} - {""}) < 2:
        return
    for emotion, rows in _by(manifest, lambda row: row.emotion).items():
        shown = {row.gender for row in rows} - {""}
        if len(shown) == 1:
            message = f"{emotion} occurs with {shown.pop()} speakers only"
            mend = "Gender reveals this emotion: leave it out or merge it."
            yield finding("warning", "emotion_of_one_gender", message, mend, rows)


def _tied(manifest: Manifest, column: str, word: str) -> Iterator[Finding]:
    """Values of a column with one emotion only, more often than by chance."""
    share = {emotion: number / len(manifest) for emotion, number in manifest.counts().items()}
    values = _by(manifest, lambda row: key_of(row, column))
    tied = {
        value: rows
        for value, rows in values.items()
        if _one_emotion(rows) and share[rows[0].emotion] ** (len(rows) - 1) < CHANCE
    }
    mend = f"A model may learn the {word} instead of the emotion: also report results without these utterances."
    kind, what = f"{word}_tied_to_emotion", f"of {len(values)} with one emotion only"
    yield from listed_groups("warning", kind, word, what, tied, mend, "'{short}' ({emotion}, {n})")


def check_predictable(
    manifest: Manifest, what: str, values: Sequence[Hashable], better: float = BETTER
) -> Iterator[Finding]:
    """Warn if `values` alone predict the emotion, by the balanced leave-one-out accuracy of the most frequent emotion.

    Leaving out the row itself keeps a column of unique values from looking perfect.
    """
    totals = manifest.counts()
    emotions = list(totals)
    tables: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for row, value in zip(manifest, values, strict=True):
        tables[value][row.emotion] += 1
    if len(tables) < 2 or len(emotions) < 2:
        return
    correct = dict.fromkeys(emotions, 0.0)
    for row, value in zip(manifest, values, strict=True):
        own = tables[value]
        # relative to the size of each emotion, as for a classifier that weights all emotions equally
        scores = {e: (own[e] - (e == row.emotion)) / max(1, totals[e] - (e == row.emotion)) for e in emotions}
        best = max(scores.values())
        winners = [e for e in emotions if scores[e] == best]
        if row.emotion in winners:
            correct[row.emotion] += 1 / len(winners)
    chance = 1 / len(emotions)
    uar = sum(correct[e] / totals[e] for e in emotions) / len(emotions)
    noise = 3 * (chance * (1 - chance) / len(manifest)) ** 0.5  # small tables: three standard errors
    if uar > chance + max(better, noise):
        message = f"{what} alone predicts the emotion with {uar:.0%} UAR (chance {chance:.0%})"
        mend = "A model can score without using the voice: balance the column, or compare within its values."
        yield finding("warning", "emotion_predictable", message, mend)
