"""The one table that every corpus becomes: a row an utterance.

    corpus on disk -> **manifest** -> splits -> features -> batches -> network

A manifest keeps every usable row with its canonical and its original label; which emotions take part is
the choice of an experiment, made by `Manifest.select`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from unheard.errors import ManifestError, did_you_mean

LABELS = (
    "angry",
    "happy",
    "neutral",
    "sad",
    "surprised",
    "fearful",
    "disgusted",
    "calm",
    "bored",
    "excited",
    "frustrated",
    "other",
)
"""The canonical emotion labels. A model's index order is the alphabetical order of the labels it knows."""

FOUR = ("angry", "happy", "neutral", "sad")
"""The four emotions an experiment uses unless told otherwise."""


_ABSENT = ("nan", "NaN", "<NA>", "NaT")  # as pandas writes them; Nan is a name


def plain(word: str) -> str:
    """A name as it is compared: without blanks around it, accents in one form, pandas' `nan` as nothing.

    Else a speaker, a session or a group would be two that look alike, and be on two sides of a split.
    """
    word = (word if word.isascii() else unicodedata.normalize("NFC", word)).strip()
    return "" if word in _ABSENT else word


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row: a stretch of one recording, spoken by one person with one emotion.

    `audio` is a path; `start` and `end` are seconds in that file (`end` None: to its end); `channel` is
    `mix`, `left`, `right` or a channel number. `emotion` is a word of `LABELS`, `original` the word the
    corpus itself uses. `text` is the sentence's code or transcript. Columns of the user's own live in `extra`.
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

    def get(self, column: str) -> str:
        """The value of any column, own or `extra`, as text; raises `ManifestError` for an unknown one."""
        if column in COLUMNS:
            value = getattr(self, column)
            return "" if value is None else str(value)
        if column in self.extra:
            return self.extra[column]
        raise ManifestError(
            f"utterance '{self.id}' has no column '{column}'",
            mend=did_you_mean(column, [*COLUMNS, *self.extra]),
        )


COLUMNS = (
    "id", "audio", "start", "end", "speaker", "gender", "session", "emotion", "text", "corpus", "language",
    "original", "channel",
)  # fmt: skip
"""Column order of a written manifest; columns of the user's own follow."""
assert set(COLUMNS) == {f.name for f in fields(Utterance)} - {"extra"}


@dataclass(frozen=True, slots=True)
class Note:
    """Something a reader or an audit wants a person to know; `kind` is a short stable word for programs.

    `ids` are the utterances or files concerned.
    """

    kind: str
    message: str
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Manifest(Sequence[Utterance]):
    """An immutable table of utterances with unique ids, and what its reader had to say about them."""

    rows: tuple[Utterance, ...]
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        counts = Counter(row.id for row in self.rows)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ManifestError(
                f"{len(twice)} ids occur more than once, '{twice[0]}' first",
                mend="Give every utterance an id of its own.",
            )
        for row in self.rows:
            if row.emotion not in LABELS:
                raise ManifestError(
                    f"utterance '{row.id}' has the unknown emotion '{row.emotion}'",
                    mend=did_you_mean(row.emotion, LABELS),
                )
            if not row.speaker:
                raise ManifestError(f"utterance '{row.id}' has no speaker", mend="Fill the column 'speaker'.")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.rows)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.rows[index]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the order of the rows."""
        return tuple(row.id for row in self.rows)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, each once, sorted."""
        return tuple(sorted({row.speaker for row in self.rows}))

    def column(self, name: str) -> list[str]:
        """One column as text, in the order of the rows."""
        return [row.get(name) for row in self.rows]

    def counts(self, column: str = "emotion") -> dict[str, int]:
        """How many rows have each value of `column`, sorted by value."""
        return dict(sorted(Counter(self.column(column)).items()))

    def by_id(self) -> dict[str, Utterance]:
        """The rows by their ids."""
        return {row.id: row for row in self.rows}

    def where(self, keep: Callable[[Utterance], bool]) -> Manifest:
        """The rows for which `keep` is true; notes are kept."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)))

    def select(self, emotions: Iterable[str] = FOUR, mapping: Mapping[str, str] | None = None) -> Manifest:
        """The rows of an experiment: labels renamed by `mapping` (excited=happy), then `emotions` kept.

        Raises `ManifestError` for an unknown label or an emotion that no row has.
        """
        emotions = tuple(emotions)
        mapping = dict(mapping or {})
        for label in (*emotions, *mapping, *mapping.values()):
            if label not in LABELS:
                raise ManifestError(f"unknown emotion '{label}'", mend=did_you_mean(label, LABELS))
        renamed = (replace(row, emotion=mapping.get(row.emotion, row.emotion)) for row in self.rows)
        chosen = replace(self, rows=tuple(row for row in renamed if row.emotion in emotions))
        missing = sorted(set(emotions) - {row.emotion for row in chosen})
        if missing:
            raise ManifestError(
                f"no utterance is labelled {', '.join(missing)}",
                mend=f"Labels here: {', '.join(self.counts())}; choose among them, or rename them in the table "
                "(experiments: --emotions, --map).",
            )
        return chosen

    @staticmethod
    def concat(manifests: Sequence[Manifest]) -> Manifest:
        """Several corpora as one: ids and speakers become `<corpus>/<id>` so that none collide."""
        if len(manifests) == 1:
            return manifests[0]
        rows = tuple(
            replace(row, id=f"{row.corpus}/{row.id}", speaker=f"{row.corpus}/{row.speaker}")
            for manifest in manifests
            for row in manifest
        )
        return Manifest(rows, tuple(note for manifest in manifests for note in manifest.notes))
