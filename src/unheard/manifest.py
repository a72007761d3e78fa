"""The manifest: a table with a row per utterance, in the same format for every corpus.

    corpus on disk -> **manifest** -> splits -> features -> batches -> network

A manifest keeps every usable row with its canonical and its original label; an experiment selects emotions with
`Manifest.select`.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from unheard.errors import AudioError, ManifestError, counted, did_you_mean
from unheard.notebook import COLOURS, axes_for, frame, table

LABELS = (
    "angry", "happy", "neutral", "sad", "surprised", "fearful", "disgusted", "calm", "bored", "excited", "frustrated",
    "other",
)  # fmt: skip
"""The canonical emotion labels. The index order of a model is the alphabetical order of its labels."""

FOUR = ("angry", "happy", "neutral", "sad")
"""The default emotions of an experiment."""

_ABSENT = ("nan", "NaN", "<NA>", "NaT")  # missing values as pandas writes them; Nan is a name


def plain(word: str) -> str:
    """Normalise a name for comparison: strip spaces, compose accents (NFC), and empty pandas' `nan`.

    Otherwise one speaker, session or group could count as two and end up on both sides of a split.
    """
    word = (word if word.isascii() else unicodedata.normalize("NFC", word)).strip()
    return "" if word in _ABSENT else word


@dataclass(frozen=True, slots=True)
class Utterance:
    """A row of a manifest: a segment of a recording, spoken by one person with one emotion.

    `audio` is a path; `start` and `end` are seconds in that file (`end` None: to its end); `channel` is `mix`, `left`,
    `right` or a channel number. `emotion` is one of `LABELS`, `original` the corpus's own label. `text` is the code or
    the transcript of the sentence. Other columns are in `extra`.
    """

    id: str
    audio: str
    speaker: str
    emotion: str
    start: float = 0.0
    end: float | None = None
    gender: str = ""
    session: str = ""
    text: str = ""
    corpus: str = ""
    language: str = ""
    original: str = ""
    channel: str = "mix"
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The speaker as `<corpus>/<speaker>`, also if the column `speaker` already contains the corpus."""
        return self.speaker if self.speaker.startswith(f"{self.corpus}/") else f"{self.corpus}/{self.speaker}"

    def get(self, column: str) -> str:
        """Return the value of a column as text; raises `ManifestError` for an unknown column."""
        if column in COLUMNS:
            value = getattr(self, column)
            return "" if value is None else str(value)
        if column in self.extra:
            return self.extra[column]
        mend = did_you_mean(column, [*COLUMNS, *self.extra])
        raise ManifestError(f"utterance '{self.id}' has no column '{column}'", mend=mend)


COLUMNS = (
    "id", "audio", "start", "end", "speaker", "gender", "session", "emotion", "text", "corpus", "language",
    "original", "channel",
)  # fmt: skip
"""The columns of a written manifest in order; those of `extra` follow."""
assert set(COLUMNS) == {f.name for f in fields(Utterance)} - {"extra"}


@dataclass(frozen=True, slots=True)
class Note:
    """A finding of a reader or audit; `kind` is a short stable identifier, `ids` the utterances or files concerned."""

    kind: str
    message: str
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, repr=False)
class Manifest(Sequence[Utterance]):
    """An immutable table of utterances with unique ids, and the notes of its reader."""

    rows: tuple[Utterance, ...]
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        twice = sorted(name for name, count in Counter(row.id for row in self.rows).items() if count > 1)
        if twice:
            mend = "Give every utterance its own id."
            raise ManifestError(f"{counted(len(twice), 'id')} used more than once, '{twice[0]}' first", mend=mend)
        for row in self.rows:
            if row.emotion not in LABELS:
                mend = did_you_mean(row.emotion, LABELS)
                raise ManifestError(f"utterance '{row.id}' has the unknown emotion '{row.emotion}'", mend=mend)
            if not row.speaker:
                raise ManifestError(f"utterance '{row.id}' has no speaker", mend="Fill the column 'speaker'.")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.rows)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.rows[index]

    def __repr__(self) -> str:
        counts = ", ".join(f"{label} {count}" for label, count in self.counts().items())
        return f"<Manifest: {self.size} ({counts}), {counted(len(self.notes), 'note')}>"

    @property
    def size(self) -> str:
        """How many utterances of how many speakers, in words."""
        return f"{counted(len(self), 'utterance')} of {counted(len(self.speakers), 'speaker')}"

    def _repr_html_(self) -> str:
        """Return the number of utterances of each corpus, gender and emotion as an HTML table."""
        labels, rows = list(self.counts()), []
        for corpus, gender in sorted({(row.corpus, row.gender) for row in self.rows}):
            part = Manifest(tuple(row for row in self.rows if (row.corpus, row.gender) == (corpus, gender)))
            counts = (len(part.speakers), *(part.counts().get(label, 0) for label in labels), len(part))
            rows.append([corpus, gender, *map(str, counts)])
        return table(repr(self), ["corpus", "gender", "speakers", *labels, "all"], rows)

    def to_frame(self) -> Any:
        """Return the table as a pandas DataFrame with the columns `COLUMNS` and those of `extra`.

        Raises `UnheardError` if pandas is not installed.
        """
        return frame({column: getattr(row, column) for column in COLUMNS} | dict(row.extra) for row in self.rows)

    def plot(self, axes: Any = None) -> Any:
        """Plot the number of utterances of every speaker by emotion with matplotlib, and return the axes.

        Raises `UnheardError` if matplotlib is not installed.
        """
        names = self.speakers
        axes = axes_for(axes, min(4 + 0.2 * len(names), 16), 3)
        counts, below = Counter((row.speaker, row.emotion) for row in self.rows), [0] * len(names)
        for label in self.counts():
            heights = [counts[name, label] for name in names]
            axes.bar(range(len(names)), heights, bottom=below, color=COLOURS[label], label=label)
            below = [first + height for first, height in zip(below, heights, strict=True)]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set(ylabel="utterances")
        axes.legend(ncols=6, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
        return axes

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the order of the rows."""
        return tuple(row.id for row in self.rows)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The distinct speakers, sorted."""
        return tuple(sorted({row.speaker for row in self.rows}))

    def column(self, name: str) -> list[str]:
        """Return one column as text, in the order of the rows."""
        return [row.get(name) for row in self.rows]

    def counts(self, column: str = "emotion") -> dict[str, int]:
        """Count the rows per value of `column`, sorted by value."""
        return dict(sorted(Counter(self.column(column)).items()))

    def by_id(self) -> dict[str, Utterance]:
        """Return id -> row."""
        return {row.id: row for row in self.rows}

    def where(self, keep: Callable[[Utterance], bool]) -> Manifest:
        """Return the rows for which `keep` is true, with all notes."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)))

    def rename(self, mapping: Mapping[str, str]) -> Manifest:
        """Rename canonical or original labels, such as {"excited": "happy"}; original labels take precedence.

        Raises `ManifestError` for an unknown label, old or new.
        """
        mapping = {plain(word): label for word, label in mapping.items()}
        words = {row.original for row in self.rows if row.original in mapping}
        for label in (*(word for word in mapping if word not in words), *mapping.values()):
            if label not in LABELS:
                raise ManifestError(f"unknown emotion '{label}'", mend=did_you_mean(label, LABELS))
        labels = [mapping.get(row.original if row.original in words else row.emotion, "") for row in self.rows]
        pairs = zip(self.rows, labels, strict=True)
        return replace(self, rows=tuple(replace(row, emotion=label) if label else row for row, label in pairs))

    def select(self, emotions: Iterable[str] = FOUR, mapping: Mapping[str, str] | None = None) -> Manifest:
        """Rename labels by `mapping` (see `rename`), then keep `emotions`.

        Raises `ManifestError` for an unknown label or an emotion without rows.
        """
        emotions = tuple(emotions)
        for label in emotions:
            if label not in LABELS:
                raise ManifestError(f"unknown emotion '{label}'", mend=did_you_mean(label, LABELS))
        renamed = self.rename(mapping or {})
        chosen = renamed.where(lambda row: row.emotion in emotions)
        if missing := sorted(set(emotions) - {row.emotion for row in chosen}):
            mend = f"Labels here: {', '.join(renamed.counts())}; choose among them, or rename them in the table "
            mend += "(experiments: --emotions, --map)."
            raise ManifestError(f"no utterance is labelled {', '.join(missing)}", mend=mend)
        return chosen

    @staticmethod
    def concat(manifests: Sequence[Manifest]) -> Manifest:
        """Concatenate the manifests of several corpora; ids and speakers get the prefix `<corpus>/` to stay unique."""
        if len(manifests) == 1:
            return manifests[0]
        rows = (row for manifest in manifests for row in manifest)
        named = (replace(row, id=f"{row.corpus}/{row.id}", speaker=f"{row.corpus}/{row.speaker}") for row in rows)
        return Manifest(tuple(named), tuple(note for manifest in manifests for note in manifest.notes))


def choose_channel(manifest: Manifest, channel: str = "mix") -> Manifest:
    """Set the channel of every row: mix (the row's own channel), left, right, or each (a row per channel).

    A row with the channel `each` is always replaced by a row per channel. With several channels, id and speaker get the
    suffix `-left`, `-right` (two channels) or `-channel<n>`: in a call each channel is a different person. Rows without
    a session that name a channel get one session per recording, so that both ends of a call stay on one side of a
    split. A recording that cannot be read keeps one row and is reported when its features are computed.
    """
    from unheard.audio import info

    counts: dict[str, int] = {}
    sessions: dict[str, str] = {}
    kinds: dict[str, set[bool]] = {}  # speaker -> whether the recordings have several channels
    rows = []
    for row in manifest:
        if row.channel not in ("mix", "each") and not row.session:
            row = replace(row, session=sessions.setdefault(os.path.realpath(row.audio), row.id))
        row = row if channel == "mix" else replace(row, channel=channel)
        if row.channel != "each":
            rows.append(row)
            continue
        if row.audio not in counts:
            try:
                counts[row.audio] = info(row.audio).channels
            except AudioError:
                counts[row.audio] = 1
        channels = counts[row.audio]
        kinds.setdefault(row.speaker, set()).add(channels > 1)
        call = os.path.realpath(row.audio)  # one call even if spelt differently
        session = row.session or (sessions.setdefault(call, row.id) if channels > 1 else "")
        for name in {1: ("mix",), 2: ("left", "right")}.get(channels) or map(str, range(1, channels + 1)):
            suffix = "" if channels == 1 else f"-channel{name}" if name.isdigit() else f"-{name}"
            rows.append(replace(row, id=row.id + suffix, speaker=row.speaker + suffix, channel=name, session=session))
    notes = manifest.notes
    if both := [speaker for speaker, several in kinds.items() if len(several) > 1]:
        what = (
            f"{counted(len(both), 'speaker')} ({', '.join(both[:5])}) with recordings of one channel and several; each "
            "channel counts as another person: if it is the same person, choose a --channel"
        )
        notes = (*notes, Note("channels", what))
    return Manifest(tuple(rows), notes)
