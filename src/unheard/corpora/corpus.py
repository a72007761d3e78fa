"""Declarations of released corpora, and the reader of their folder trees.

    Corpus (pattern of the names, label table, genders, counts...) + folder -> read_tree -> Manifest

To add a corpus, declare a `Corpus`; it needs a function (`refine`) only for rules that a pattern cannot express.
"""

import filecmp
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unheard.corpora.rows import EMOTION_WORDS
from unheard.errors import AudioError, CorpusError, counted, did_you_mean, some
from unheard.files import LFS, walk_files
from unheard.manifest import COLUMNS, FOUR, LABELS, Manifest, Note, Utterance

UNVERIFIED = "unverified"  # the source of a fact that could not be confirmed at its origin

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
"""Accepted formats, in order of preference if a clip exists in several."""


@dataclass(frozen=True, slots=True)
class Download:
    """The archive of a corpus, and how to unpack it.

    `source` is the source of the address and the checksum (`md5:...` or `sha256:...`, only if published). `strip`
    leading folders are removed from names in the archive; `keep` are patterns of the names to unpack (default: all).
    `pointers` is the base address of files that the archive contains only as Git LFS pointers.
    """

    url: str
    file: str
    source: str
    checksum: str | None = None
    strip: int = 0
    keep: tuple[str, ...] = ()
    pointers: str | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """A released corpus: how to read it, its expected contents, and the source of each fact.

    Reading: `patterns` match the end of a path without its suffix; their named groups become columns of the manifest
    (`speaker` and `emotion` are required, `id` replaces the file name, others are in `extra`). `emotions` maps the
    group `emotion` to (canonical, original) label, `genders` lists the speakers, `values` translates other groups.
    `refine` changes the groups if a pattern is not sufficient, or returns None for a name outside the corpus. `folder`
    matches the name of the folder with the release's original audio, which is preferred if a clip exists twice.
    `ignore` matches paths of other parts of the release.

    Contents: `counts` are files per canonical label, `speaker_counts` the same per speaker if known, and `clips`
    returns every id of the release with its label if a list exists. `unlabelled` counts utterances without a usable
    label. `copies` are groups of ids with one recording of one speaker, of which the first is kept. `clashes` are
    groups with one recording under several speakers or emotions, which are dropped. `unusable` maps broken clips to the
    defect. `subsets` maps names to speakers (none: the corpus has its own reader), `text_subsets` to sentences.

    `sources` gives the sources of `utterances`, `speakers`, `counts`, `licence` (and `speaker_counts`, `duplicates` if
    given), or `UNVERIFIED`. `layout` is an example path, `obtain` describes how to get the release.
    """

    name: str
    title: str
    language: str
    licence: str
    citation: str
    homepage: str
    obtain: str
    layout: str
    genders: Mapping[str, str]
    counts: Mapping[str, int]
    sources: Mapping[str, str]
    patterns: tuple[str, ...] = ()
    emotions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    refine: Callable[[dict[str, str]], dict[str, str] | None] | None = None
    folder: str = ""
    ignore: str = ""
    speaker_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    clips: Callable[[Path], Mapping[str, str] | None] | None = None
    unlabelled: int = 0
    copies: tuple[tuple[str, ...], ...] = ()
    clashes: tuple[tuple[str, ...], ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    traps: tuple[str, ...] = ()
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text_subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    download: Download | None = None

    def __post_init__(self) -> None:
        cited = {"utterances", "speakers", "counts", "licence", *["speaker_counts"] * bool(self.speaker_counts)}
        cited |= {"duplicates"} if self.copies or self.clashes else set()
        uncited, unknown = cited - set(self.sources), set(self.counts) - set(LABELS)
        if uncited or unknown:
            raise ValueError(f"{self.name}: no source for {sorted(uncited)}, unknown labels {sorted(unknown)}")

    @property
    def speakers(self) -> int:
        """Number of speakers."""
        return len(self.genders)

    @property
    def utterances(self) -> int:
        """Number of utterances in the release."""
        return sum(self.counts.values()) + self.unlabelled


def speaker_table(text: str, labels: str) -> dict[str, dict[str, int]]:
    """Parse counts per speaker: `"01 14 14; 02 4 4"` with the labels `"angry happy"`."""
    rows = (line.split() for line in text.split(";"))
    return {speaker: dict(zip(labels.split(), map(int, counts), strict=True)) for speaker, *counts in rows}


def emotion_table(text: str) -> dict[str, tuple[str, str]]:
    """Parse the words of a corpus: `"W anger, L boredom"` to {"W": ("angry", "anger"), "L": ("bored", "boredom")}."""
    pairs = [entry.strip().partition(" ") for entry in text.split(",")]
    return {code: (EMOTION_WORDS[(word or code).lower()], word or code) for code, _, word in pairs}


def is_lfs_pointer(path: str) -> bool:
    """Return whether a file is a Git LFS pointer, the small text in a clone without Git LFS."""
    try:
        small = 100 <= os.stat(path).st_size < 1024  # noqa: PTH116
        return small and Path(path).read_bytes().startswith(LFS)
    except OSError:
        return False


def walk_audio(root: Path) -> Iterator[str]:
    """Yield the paths of audio files below `root`, see `walk_files`."""
    return (path for path in walk_files(root) if path.lower().endswith(AUDIO_SUFFIXES))


def open_root(corpus: Corpus, root: str | Path) -> Path:
    """Return `root` as an absolute folder; raises `CorpusError` if it is not one."""
    path = Path(root).expanduser().absolute()
    if path.is_dir():
        return path
    if not path.exists():
        raise CorpusError(f"there is no folder for {corpus.title}", where=path, mend=corpus.obtain)
    what = f"{corpus.title} is read from a folder, and this is a file"
    raise CorpusError(what, where=path, mend="Unpack it and give the folder.")


def read_tree(
    corpus: Corpus,
    root: str | Path,
    *,
    labels: Iterable[str] | None = None,
    partial: bool = False,
    subset: str | None = None,
) -> Manifest:
    """Read a corpus described by its file names; a row per clip, sorted by id.

    The tree must be complete for `labels`, see `finish`. Raises `CorpusError` if no clip is found, if copies of a clip
    differ in sound, for Git LFS pointers (unless `partial`), and for an incomplete tree (unless `partial`).
    """
    folder = open_root(corpus, root)
    if subset and subset in corpus.subsets:
        chosen = {speaker: corpus.speaker_counts[speaker] for speaker in corpus.subsets[subset]}
        counts = {label: sum(row.get(label, 0) for row in chosen.values()) for label in corpus.counts}
        corpus = replace(corpus, title=f"{corpus.title}, {subset}", counts=counts, speaker_counts=chosen)
    tree = _scanned(corpus, folder, subset)
    if tree.pointers and not (partial and tree.found):
        fetch = f", or fetch it with: unheard fetch {corpus.name}" if corpus.download else ""
        what = f"{counted(len(tree.pointers), 'Git LFS pointer')}, not audio: {some(tree.pointers)}"
        raise CorpusError(what, where=folder, mend=f"Run 'git lfs pull' in the clone{fetch}.")
    if not tree.found:
        raise _not_this_one(corpus, folder, tree)
    files, repeated = without_copies(folder, tree.found, corpus.folder)
    clips = [tree.rows[files[name]] for name in sorted(files)]
    lossy = [row.id for row in clips if not row.audio.lower().endswith(AUDIO_SUFFIXES[:2])]
    notes = [
        *listed("odd-name", "audio file", f"skipped, not named like a clip of {corpus.title}", tree.odd),
        *listed("lfs-pointer", "Git LFS pointer", "skipped, not audio", tree.pointers),
        *listed("extra", "file", "skipped for repeating a clip (another folder or format)", repeated),
        *listed("formats", "clip", "in a lossy format, unlike the others, which a model can learn as a cue",
                lossy if len(lossy) < len(clips) else ()),
    ]  # fmt: skip
    release = corpus.clips(folder) if corpus.clips else None
    manifest = finish(corpus, folder, clips, labels=labels, partial=partial, clips=release, notes=notes)
    texts = corpus.text_subsets.get(subset or "")
    return manifest.where(lambda row: row.text in texts) if texts else manifest


@dataclass
class _Tree:
    """The audio files below a folder: paths of each clip by id with their rows, and other files."""

    found: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, Utterance] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)
    ignored: int = 0


def _scanned(corpus: Corpus, folder: Path, subset: str | None) -> _Tree:
    tree = _Tree()
    patterns = [re.compile(f"(?:.*/)?{pattern}") for pattern in corpus.patterns]
    ignore = re.compile(f"(?:.*/)?{corpus.ignore}") if corpus.ignore else None
    for path in walk_audio(folder):
        name = path.rpartition(".")[0].replace("\\", "/")  # some tools unpack archives with backslashes in names
        if ignore and ignore.fullmatch(name, len(str(folder.parent))):
            tree.ignored += 1
            continue
        match = next(filter(None, (pattern.fullmatch(name) for pattern in patterns)), None)
        row = _utterance(corpus, path, match) if match else None
        if row is None:
            tree.odd.append(os.path.relpath(path, folder))
        elif subset in corpus.subsets and row.speaker not in corpus.speaker_counts:
            continue
        elif is_lfs_pointer(path):
            tree.pointers.append(os.path.relpath(path, folder))
        else:
            tree.found.setdefault(row.id, []).append(path)
            tree.rows[path] = row
    return tree


def _not_this_one(corpus: Corpus, folder: Path, tree: _Tree) -> CorpusError:
    what = f"it contains no audio file ({', '.join(AUDIO_SUFFIXES)})"
    if tree.odd or tree.ignored:
        what = f"{counted(len(tree.odd) + tree.ignored, 'audio file')}, none with a name of this corpus"
        what += f", for example {tree.odd[0]}" if tree.odd else ""
    mend = f"Give the folder that holds {corpus.layout}. {corpus.obtain}"
    return CorpusError(f"this is not {corpus.title}: {what}", where=folder, mend=mend)


def finish(
    corpus: Corpus,
    root: Path,
    rows: Sequence[Utterance],
    *,
    labels: Iterable[str] | None = None,
    partial: bool = False,
    clips: Mapping[str, str] | None = None,
    notes: Iterable[Note] = (),
    detail: str = "",
) -> Manifest:
    """Check `rows` (one per clip found) against the release, drop known duplicates, and add the notes.

    Completeness is checked for `labels`, by default the corpus's labels among the four usual emotions; other rows are
    kept unchecked. `clips` maps every official id to its label if the list is known; otherwise counts per label and, if
    known, per speaker are compared. `detail` is appended to the message about missing files. Raises `CorpusError` for a
    label that the corpus does not have and, unless `partial`, for an incomplete tree.
    """
    wanted = tuple(dict.fromkeys(labels)) if labels is not None else tuple(x for x in FOUR if x in corpus.counts)
    for label in wanted:
        if label not in corpus.counts:
            mend = did_you_mean(label, corpus.counts)
            raise CorpusError(f"{corpus.title} has no clip labelled '{label}'", mend=mend)
    if not wanted:
        raise CorpusError(f"no label of {corpus.title} is selected", mend="Name at least one.")
    notes = list(notes)
    what, missing, surplus = _compared(corpus, rows, wanted, clips)
    if missing:
        what = f"{corpus.title} is incomplete for {', '.join(wanted)}: {what}{detail}"
        if not partial:
            raise CorpusError(what, where=root, mend=f"{corpus.obtain} Or read what exists with --partial.")
        notes.append(Note("missing", what, tuple(missing)))
    notes += listed("extra", "difference", f"from the release of {corpus.title}, kept", surplus)
    ids = {row.id for row in rows}
    copies = {name for group in corpus.copies for name in [n for n in group if n in ids][1:]}
    clashes = ids & {name for group in corpus.clashes for name in group}
    unusable = ids & set(corpus.unusable)
    why = [corpus.unusable[name] for name in sorted(unusable)]
    notes += [
        *listed("duplicate", "clip", "left out for repeating another recording of the same speaker", copies),
        *listed("duplicate", "clip", "left out as one recording under two speakers or emotions", clashes),
        *listed("unusable", "clip", f"left out, broken in the release ({'; '.join(why)})", unusable),
        *(Note("trap", trap) for trap in corpus.traps),
    ]
    return Manifest(tuple(row for row in rows if row.id not in copies | clashes | unusable), tuple(notes))


def listed(kind: str, thing: str, what: str, names: Iterable[str]) -> list[Note]:
    """Return a note such as "2 clips left out: a, b", in a list; an empty list without names."""
    names = tuple(sorted(names))
    return [Note(kind, f"{counted(len(names), thing)} {what}: {some(names)}", names)] if names else []


def _utterance(corpus: Corpus, path: str, match: re.Match[str]) -> Utterance | None:
    groups: dict[str, str] = {"id": match.string.rpartition("/")[2], **match.groupdict(default="")}
    fields = corpus.refine(groups) if corpus.refine else groups
    if fields is None or fields["speaker"] not in corpus.genders:
        return None
    word = fields.pop("emotion")
    label, original = corpus.emotions.get(word) or corpus.emotions.get(word.lower()) or ("", "")
    if not label:
        return None
    fields |= {name: values[fields[name]] for name, values in corpus.values.items()}
    columns = {"language": corpus.language, "corpus": corpus.name, "gender": corpus.genders[fields["speaker"]]}
    columns |= {"original": original} | {name: fields.pop(name) for name in COLUMNS if name in fields}
    return Utterance(**columns, audio=path, emotion=label, extra=fields)  # type: ignore[arg-type]


def without_copies(root: Path, found: Mapping[str, Sequence[str]], own: str) -> tuple[dict[str, str], list[str]]:
    """Choose one file per clip id; also return the skipped files, relative to `root`.

    Files below a folder whose name matches `own` (the release's folder) are preferred, then better formats, then
    shorter paths. Raises `CorpusError` for files with the same preference whose sound differs.
    """
    folder = re.compile(own or r"(?!)")

    def rank(path: str) -> tuple[bool, int, int, str]:
        relative = Path(path).relative_to(root)
        other = not any(map(folder.fullmatch, (root.name, *relative.parts[:-1])))
        return other, AUDIO_SUFFIXES.index(relative.suffix.lower()), len(relative.parts), str(relative)

    chosen = {name: paths[0] for name, paths in found.items()}
    repeated, differing = [], []
    for name, paths in found.items():
        if len(paths) == 1:
            continue
        (other, *_, first), *rest = sorted(map(rank, paths))
        chosen[name] = str(root / first)
        repeated += [copy for *_, copy in rest]
        equals = [copy for standing, *_, copy in rest if standing == other]
        differing += [f"{first} and {copy}" for copy in equals if not same_sound(root / first, root / copy)]
    if differing:
        what = f"{counted(len(differing), 'clip')} with copies that differ in sound: {some(differing)}"
        mend = "Remove the copies that are not from the release, or give the folder with the right ones."
        raise CorpusError(what, where=root, mend=mend)
    return chosen, repeated


def same_sound(one: Path, other: Path) -> bool:
    """Return whether two files are the same recording: equal bytes or samples, or a correlation above 0.9 (lossy)."""
    if filecmp.cmp(one, other, shallow=False):
        return True
    import numpy as np

    from unheard.audio import read_audio

    try:
        a, b = read_audio(one), read_audio(other)
    except AudioError:
        return False
    if len(a) == len(b) and np.array_equal(a, b):
        return True
    size = len(a) + len(b)
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    return bool(cross.max() > 0.9 * np.linalg.norm(a) * np.linalg.norm(b))


def _compared(
    corpus: Corpus, rows: Sequence[Utterance], wanted: Sequence[str], clips: Mapping[str, str] | None
) -> tuple[str, list[str], list[str]]:
    """Compare the tree with the release; return a description of missing files, missing and surplus ids or counts."""
    if clips is not None:
        found = {row.id for row in rows}
        listed = {name for name, label in clips.items() if label in wanted}
        missing = sorted(listed - found)
        surplus = sorted(row.id for row in rows if row.emotion in wanted and row.id not in clips)
        return f"files missing: {len(missing)} of {len(listed)}: {some(missing)}", missing, surplus
    classes = Counter(row.emotion for row in rows)
    cells = Counter((row.speaker, row.emotion) for row in rows)
    short = [f"{x} {classes[x]} of {corpus.counts[x]}" for x in wanted if classes[x] < corpus.counts[x]]
    surplus = [f"{x} {classes[x]} instead of {corpus.counts[x]}" for x in wanted if classes[x] > corpus.counts[x]]
    if corpus.speaker_counts:
        surplus += [f"speaker {name}" for name in sorted({row.speaker for row in rows} - set(corpus.speaker_counts))]
    gaps = [
        f"{speaker} {label} {cells[speaker, label]} of {count}"
        for speaker, counts in corpus.speaker_counts.items()
        for label, count in counts.items()
        if label in wanted and cells[speaker, label] < count
    ]
    parts = [f"files found: {', '.join(short)}"] if short else []
    parts += [f"by speaker: {some(gaps)}"] if gaps else []
    return "; ".join(parts), gaps or short, surplus
