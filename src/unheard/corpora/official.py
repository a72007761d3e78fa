"""What the makers of a corpus say about it, and the one check that a tree on disk agrees.

A reader is a table of facts (`OFFICIAL`), a function that turns one file name into one `Utterance`, and a
call of `read_tree`, which finds the audio, reports what differs from the release, and refuses an incomplete
tree.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from unheard.errors import CorpusError, did_you_mean
from unheard.manifest import FOUR, LABELS, Manifest, Note, Utterance

UNVERIFIED = "unverified"
"""The source of a fact that was not found at its origin."""

AUDIO_SUFFIXES = (".wav", ".flac")
"""Audio a reader takes, the preferred first where a clip is there in both."""

_NAMED = 5  # how many files a message names before it says "and n more"
_NOTHING: Mapping[str, Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Official:
    """The facts of one corpus as released, each with its source.

    `counts` are files per canonical label, `speaker_counts` the same per speaker (speaker -> label -> files)
    where known. `sources` says where each of `utterances`, `speakers`, `counts`, `licence` (and of
    `speaker_counts`, `duplicates` when given) was found, or `UNVERIFIED`.

    `copies` are groups of ids that hold one recording of one speaker: the first is kept. `clashes` are groups
    that hold one recording under several speakers or emotions: none is kept, because nobody can say which
    name is true. `layout` is an example path, `obtain` a sentence on how to get the release, `fetchable`
    whether it may be downloaded without a form.
    """

    name: str
    title: str
    language: str
    licence: str
    citation: str
    homepage: str
    fetchable: bool
    obtain: str
    layout: str
    speakers: int
    utterances: int
    counts: Mapping[str, int]
    sources: Mapping[str, str]
    speaker_counts: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: _NOTHING)
    copies: tuple[tuple[str, ...], ...] = ()
    clashes: tuple[tuple[str, ...], ...] = ()
    traps: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        cited = {"utterances", "speakers", "counts", "licence"}
        cited |= {"speaker_counts"} if self.speaker_counts else set()
        cited |= {"duplicates"} if self.copies or self.clashes else set()
        uncited = cited - set(self.sources)
        unknown = set(self.counts) - set(LABELS)
        if uncited or unknown:
            raise ValueError(f"{self.name}: no source for {sorted(uncited)}, unknown labels {sorted(unknown)}")


def walk_audio(root: Path) -> Iterator[Path]:
    """Every WAV and FLAC file under `root`, sorted; hidden files, `._*` and `__MACOSX` are passed over."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(AUDIO_SUFFIXES):
                yield Path(folder, name)


def open_root(official: Official, root: str | Path) -> Path:
    """`root` as an absolute folder; raises `CorpusError` when it is not one."""
    path = Path(root).expanduser().absolute()
    if not path.exists():
        raise CorpusError(f"there is no folder for {official.title}", where=path, mend=official.obtain)
    if not path.is_dir():
        raise CorpusError(
            f"{official.title} is read from a folder, and this is a file",
            where=path,
            mend="Unpack it and give the folder.",
        )
    return path


def read_tree(
    official: Official,
    root: str | Path,
    parse: Callable[[Path], Utterance | None],
    *,
    labels: Iterable[str] | None = None,
    partial: bool = False,
    names: Mapping[str, str] | None = None,
    ignore: Callable[[Path], bool] | None = None,
) -> Manifest:
    """The manifest of a corpus whose file names say everything.

    `parse` makes one path an utterance, or None when the name is not of this corpus; files for which `ignore`
    is true belong to the release but not to the speech read here. `labels` and `names` are those of `finish`.
    Raises `CorpusError` when nothing is found or the tree is incomplete.
    """
    folder = open_root(official, root)
    rows: dict[str, Utterance] = {}
    odd: list[str] = []
    again: list[str] = []
    passed = 0
    for path in sorted(walk_audio(folder), key=_preference):
        if ignore is not None and ignore(path):
            passed += 1
            continue
        row = parse(path)
        if row is None:
            odd.append(str(path.relative_to(folder)))
        elif row.id in rows:
            again.append(str(path.relative_to(folder)))
        else:
            rows[row.id] = row
    if not rows:
        found = "there is no WAV or FLAC file in it"
        if odd or passed:
            found = f"of its {len(odd) + passed} audio files none is named as this corpus names them"
            found += f", for example {odd[0]}" if odd else ""
        raise CorpusError(
            f"this is not {official.title}: {found}",
            where=folder,
            mend=f"Give the folder that holds {official.layout}. {official.obtain}",
        )
    notes = []
    if odd:
        said = f"{len(odd)} audio files are not named as clips of {official.title} and were passed over"
        notes.append(Note("odd-name", f"{said}: {some(odd)}", tuple(odd)))
    if again:
        said = f"{len(again)} files repeat a clip already read (second folder, or FLAC beside WAV); passed over"
        notes.append(Note("extra", f"{said}: {some(again)}", tuple(again)))
    ordered = [rows[name] for name in sorted(rows)]
    return finish(official, folder, ordered, labels=labels, partial=partial, names=names, notes=notes)


def finish(
    official: Official,
    root: Path,
    rows: Sequence[Utterance],
    *,
    labels: Iterable[str] | None = None,
    partial: bool = False,
    names: Mapping[str, str] | None = None,
    notes: Iterable[Note] = (),
    detail: str = "",
) -> Manifest:
    """Check `rows` (one per clip found) against the release, drop known duplicates, and write the notes.

    `labels` decide completeness, by default those of the four usual emotions that the corpus has; other rows
    are kept unchecked. `names` maps every official id to its label where the whole list is known; otherwise
    counts per class and, where known, per speaker decide; `detail` is added to what is said of missing files.
    Raises `CorpusError` for a label that the corpus does not have and, unless `partial`, for an incomplete tree.
    """
    wanted = wanted_labels(official, labels)
    notes = list(notes)
    missing = _missing(official, rows, wanted, names)
    if missing:
        said = f"{official.title} is incomplete for {', '.join(wanted)}: {missing[0]}{detail}"
        if not partial:
            mend = f"{official.obtain} Or read what is there with --partial."
            raise CorpusError(said, where=root, mend=mend)
        notes.append(Note("missing", said, missing[1]))
    notes.extend(_surplus(official, rows, wanted, names))
    rows, dropped = _without_duplicates(official, rows)
    notes.extend(dropped)
    notes.extend(Note("trap", trap) for trap in official.traps)
    return Manifest(tuple(rows), tuple(notes))


def wanted_labels(official: Official, labels: Iterable[str] | None) -> tuple[str, ...]:
    """The labels that decide completeness; raises `CorpusError` for one that the corpus does not have."""
    if labels is None:
        return tuple(label for label in FOUR if label in official.counts)
    wanted = tuple(dict.fromkeys(labels))
    for label in wanted:
        if label not in official.counts:
            raise CorpusError(
                f"{official.title} has no clip labelled '{label}'", mend=did_you_mean(label, official.counts)
            )
    if not wanted:
        raise CorpusError(f"no label of {official.title} is asked for", mend="Name at least one.")
    return wanted


def some(items: Sequence[str]) -> str:
    """The first few of `items` for a message, and how many more there are."""
    rest = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _preference(path: Path) -> tuple[int, int, str]:
    """WAV before FLAC, shallow before deep, so that the copy that is kept does not depend on the disk."""
    return AUDIO_SUFFIXES.index(path.suffix.lower()), len(path.parts), str(path)


def _missing(
    official: Official, rows: Sequence[Utterance], wanted: Sequence[str], names: Mapping[str, str] | None
) -> tuple[str, tuple[str, ...]] | None:
    """What the tree lacks in the labels `wanted`: a sentence, and the ids or the gaps by speaker."""
    if names is not None:
        found = {row.id for row in rows}
        lost = tuple(sorted(name for name, label in names.items() if label in wanted and name not in found))
        total = sum(label in wanted for label in names.values())
        return (f"{len(lost)} of {total} files are missing: {some(lost)}", lost) if lost else None
    classes = Counter(row.emotion for row in rows)
    short = [f"{label} {classes[label]} of {official.counts[label]}" for label in wanted
             if classes[label] < official.counts[label]]  # fmt: skip
    cells = Counter((row.speaker, row.emotion) for row in rows)
    gaps = [
        f"{speaker} {label} {cells[speaker, label]} of {count}"
        for speaker, counts in official.speaker_counts.items()
        for label, count in counts.items()
        if label in wanted and cells[speaker, label] < count
    ]
    if not short and not gaps:
        return None
    said = [f"files found: {', '.join(short)}"] if short else []
    said += [f"by speaker: {some(gaps)}"] if gaps else []
    return "; ".join(said), tuple(gaps or short)


def _surplus(
    official: Official, rows: Sequence[Utterance], wanted: Sequence[str], names: Mapping[str, str] | None
) -> list[Note]:
    """Clips with a proper name that the release does not have; they are kept."""
    if names is not None:
        more = sorted(row.id for row in rows if row.emotion in wanted and row.id not in names)
    else:
        classes = Counter(row.emotion for row in rows)
        more = [f"{label} {classes[label]} instead of {official.counts[label]}" for label in wanted
                if classes[label] > official.counts[label]]  # fmt: skip
        speakers = {row.speaker for row in rows} - set(official.speaker_counts)
        more += [f"speaker {name}" for name in sorted(speakers) if official.speaker_counts]
    if not more:
        return []
    return [Note("extra", f"more than {official.title} was released with, kept: {some(more)}", tuple(more))]


def _without_duplicates(official: Official, rows: Sequence[Utterance]) -> tuple[list[Utterance], list[Note]]:
    """The rows without the recordings known to be there more than once, and notes that count them."""
    found = {row.id for row in rows}
    copies = {name for group in official.copies for name in [n for n in group if n in found][1:]}
    clashes = {name for group in official.clashes for name in group if name in found}
    notes = []
    if copies:
        ids = tuple(sorted(copies))
        said = f"{len(ids)} clips repeat another recording of the same speaker and were left out"
        notes.append(Note("duplicate", f"{said}: {some(ids)}", ids))
    if clashes:
        ids = tuple(sorted(clashes))
        said = f"{len(ids)} clips hold one recording under two speakers or emotions; all were left out"
        notes.append(Note("duplicate", f"{said}, since nobody can say which is true: {some(ids)}", ids))
    return [row for row in rows if row.id not in copies | clashes], notes
