"""Findings from the table alone: imbalance, confounded labels, too few speakers."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence

from unheard.doctor.findings import Finding, finding, listed
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

RowsByValue = Mapping[str, Sequence[Utterance]]


def check_labels(manifest: Manifest) -> Iterator[Finding]:
    """Check everything that needs no audio."""
    emotions, speakers = _by(manifest, "emotion"), _by(manifest, "speaker")
    if len(emotions) < 2:
        yield finding("error", "one_emotion", f"one emotion only: {some(list(emotions))}", "Add other emotions.")
    else:
        yield from _balance(manifest.counts())
    yield from _speakers(speakers, emotions)
    yield from _names(speakers)
    yield from _overlaps(manifest)
    yield from _genders(speakers, emotions)
    if len(emotions) < 2:
        return
    for column, word in (("text", "sentence"), ("session", "session")):
        yield from _check_single_emotion(manifest, column, word)
    for column in ("gender", "language", "corpus", "channel", "text", "session"):
        name = "sentence (text)" if column == "text" else column
        yield from check_predictable(manifest, name, [key_of(row, column) for row in manifest])


def _by(manifest: Manifest, column: str) -> dict[str, list[Utterance]]:
    """Return the rows of each value of a column, sorted by value, without the empty value."""
    rows: dict[str, list[Utterance]] = defaultdict(list)
    for row in manifest:
        rows[row.speaker if column == "speaker" else key_of(row, column)].append(row)  # names as they are spelt
    return {value: rows[value] for value in sorted(rows) if value}


def _one_emotion(rows: Sequence[Utterance]) -> bool:
    return len({row.emotion for row in rows}) == 1


def _balance(emotions: Mapping[str, int]) -> Iterator[Finding]:
    most, least = max(emotions, key=emotions.__getitem__), min(emotions, key=emotions.__getitem__)
    ratio, share = emotions[most] / emotions[least], emotions[most] / sum(emotions.values())
    if ratio >= IMBALANCE:
        how_often = f"is {ratio:.1f} times as frequent as {least} ({emotions[least]:,})"
        mend = f"Report UAR beside WA: a classifier that always answers {most} has {share:.0%} WA."
        yield finding("warning", "imbalance", f"{most} ({emotions[most]:,}) {how_often}", mend)


def _speakers(speakers: RowsByValue, emotions: RowsByValue) -> Iterator[Finding]:
    number = counted(len(speakers), "speaker")
    if len(speakers) < 3:
        message = f"{number}: training, validation and test each need at least one"
        yield finding("error", "too_few_speakers", message, "Add speakers.")
    elif len(speakers) < FEW_SPEAKERS:
        message = f"{number}: only large differences between systems can be detected"
        yield finding("warning", "few_speakers", message, "Use the protocol loso, and report each speaker.")
    for emotion, rows in emotions.items():
        who = sorted({row.speaker for row in rows})
        if len(who) < 3 <= len(speakers):
            mend = "It cannot be trained, validated and tested on different speakers: leave it out or merge it."
            yield finding("warning", "emotion_of_few_speakers", f"{emotion} occurs with {some(who)} only", mend, rows)
    if len(speakers) > 2 and all(len(rows) == 1 for rows in speakers.values()):
        message, mend = (
            "every utterance is another speaker's",
            "Name the people: one on both sides of a split leaks.",
        )
        yield finding("warning", "speaker_per_utterance", f"{message}: {some(list(speakers))}", mend)
        return
    single = {name: rows for name, rows in speakers.items() if len(emotions) > 1 and _one_emotion(rows)}
    kind, what = "speaker_with_one_emotion", "with one emotion only"
    mend = "For these speakers the voice reveals the emotion: leave them out, at least of the test set."
    yield from listed("warning", kind, "speaker", what, single, mend, lambda name, rows: f"{name} ({rows[0].emotion})")
    scarce = {name: rows for name, rows in speakers.items() if len(rows) < FEW_UTTERANCES}
    kind, what = "speaker_with_few_utterances", f"with fewer than {FEW_UTTERANCES} utterances"
    mend = "Their individual accuracy is not meaningful."
    yield from listed("note", kind, "speaker", what, scarce, mend, lambda name, rows: f"{name} ({len(rows)})")


def _names(speakers: RowsByValue) -> Iterator[Finding]:
    same = {" and ".join(names): [row for name in names for row in speakers[name]] for names in lookalikes(speakers)}
    mend = "If they are one person, use one name: otherwise the person is in training and in test."
    yield from listed("warning", "speakers_alike", "speaker", "with names that look like one", same, mend)
    unknown = [name for name in speakers if is_unknown(name)]
    if rows := [row for name in unknown for row in speakers[name]]:
        message = f"{counted(len(rows), 'utterance')} of an unknown speaker: {some([repr(name) for name in unknown])}"
        mend = "A split with them may leak: experiments drop these rows."
        yield finding("warning", "unknown_speaker", message, mend, rows)


def _overlaps(manifest: Manifest) -> Iterator[Finding]:
    """Check for segments of one recording with different speakers that overlap in time."""
    parts = manifest.where(lambda row: row.start > 0 or row.end is not None)  # whole ones are compared by their samples
    both: dict[str, Utterance] = {}
    for rows in _by(parts, "audio").values():
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


def _genders(speakers: RowsByValue, emotions: RowsByValue) -> Iterator[Finding]:
    genders = {name: {row.gender for row in rows} for name, rows in speakers.items()}
    mixed = {name: speakers[name] for name, found in genders.items() if len(found) > 1}
    what, mend = "with more than one value of 'gender'", "Two people have one name, or the column is wrong: correct it."
    yield from listed("error", "speaker_with_two_genders", "speaker", what, mixed, mend)
    unknown: RowsByValue = {name: () for name, found in genders.items() if found == {""}}
    mend = "The protocol paired needs it; kfold stratifies by it."
    yield from listed("note", "gender_unknown", "speaker", "without gender", unknown, mend)
    if len({gender for found in genders.values() for gender in found} - {""}) < 2:
        return
    for emotion, rows in emotions.items():
        shown = {row.gender for row in rows} - {""}
        if len(shown) == 1:
            message = f"{emotion} occurs with {shown.pop()} speakers only"
            mend = "Gender reveals this emotion: leave it out or merge it."
            yield finding("warning", "emotion_of_one_gender", message, mend, rows)


def _check_single_emotion(manifest: Manifest, column: str, word: str) -> Iterator[Finding]:
    """Check for values of a column that occur with one emotion only, more often than by chance."""
    share = {emotion: number / len(manifest) for emotion, number in manifest.counts().items()}
    values = _by(manifest, column)
    tied = {
        value: rows
        for value, rows in values.items()
        if _one_emotion(rows) and share[rows[0].emotion] ** (len(rows) - 1) < CHANCE
    }

    def show(value: str, rows: Sequence[Utterance]) -> str:
        return f"'{value if len(value) <= 40 else f'{value[:37]}...'}' ({rows[0].emotion}, {len(rows)})"

    mend = f"A model may learn the {word} instead of the emotion: also report results without these utterances."
    what = f"of {len(values)} with one emotion only"
    yield from listed("warning", f"{word}_tied_to_emotion", word, what, tied, mend, show)


def check_predictable(
    manifest: Manifest, what: str, values: Sequence[Hashable], better: float = BETTER
) -> Iterator[Finding]:
    """Warn if `values` alone predict the emotion, by the balanced leave-one-out accuracy of the most frequent emotion.

    Leaving out the row itself keeps a column of unique values from looking perfect.
    """
    totals = manifest.counts()
    tables: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for row, value in zip(manifest, values, strict=True):
        tables[value][row.emotion] += 1
    if len(tables) < 2 or len(totals) < 2:
        return
    uar, chance = 0.0, 1 / len(totals)
    for counts in tables.values():
        for emotion, number in counts.items():
            left = {e: n - (e == emotion) for e, n in totals.items()}
            # relative to the size of each emotion, as for a classifier that weights all emotions equally
            scores = {e: (counts[e] - (e == emotion)) / max(1, left[e]) for e in totals}
            winners = [e for e in totals if scores[e] == max(scores.values())]
            if emotion in winners:
                uar += chance * number / totals[emotion] / len(winners)
    noise = 3 * (chance * (1 - chance) / len(manifest)) ** 0.5  # small tables: three standard errors
    if uar > chance + max(better, noise):
        message = f"{what} alone predicts the emotion with {uar:.0%} UAR (chance {chance:.0%})"
        mend = "A model can score without using the voice: balance the column, or compare within its values."
        yield finding("warning", "emotion_predictable", message, mend)
