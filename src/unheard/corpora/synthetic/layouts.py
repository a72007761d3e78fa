"""A synthetic corpus in the layout of another, so that everything can be tried at full size without its licence.

Files are linked, or copied where the disk knows no links: the sound is the synthetic corpus's own.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unheard.corpora.iemocap import SUBSETS
from unheard.corpora.kaldi import write_kaldi
from unheard.corpora.synthetic.settings import SyntheticSettings, iemocap_shaped
from unheard.corpora.synthetic.tree import write
from unheard.errors import ManifestError
from unheard.files import cannot_write, write_text
from unheard.manifest import Manifest, Utterance

_TURNS = 40  # of a speaker in a dialogue; the release has some 30
_LABELS = {"angry": ("ang",), "happy": ("hap", "exc"), "neutral": ("neu",), "sad": ("sad",)}
_SECONDS = 5.0  # from one turn to the next: nobody reads the times


def iemocap_counts() -> dict[str, dict[str, int]]:
    """The utterances of the paper's subset of IEMOCAP: speaker -> emotion -> number, woman before man."""
    return {speaker: dict(counts) for speaker, counts in SUBSETS["paper"].speaker_counts.items()}


def write_iemocap(root: str | Path, *, seed: int = 0, progress: bool = True) -> tuple[Manifest, Path]:
    """A synthetic corpus with the counts of IEMOCAP's improvised four-class subset, in IEMOCAP's layout too.

    `root/Session1` to `root/Session5` hold label files, transcripts and links to the sound: the reader of
    `iemocap` finds 2943 utterances of ten speakers. Returns the manifest of the synthetic corpus and the tree.
    """
    settings = iemocap_shaped(iemocap_counts(), seed)
    manifest = write(root, settings, progress=progress)
    folder = Path(root).expanduser().absolute()
    _write_sessions(manifest, tuple(iemocap_counts()), folder)
    return manifest, folder


def write_kaldi_directory(
    root: str | Path, settings: SyntheticSettings, *, progress: bool = True
) -> tuple[Manifest, Path]:
    """A synthetic corpus of `settings`, and the Kaldi data directory `root/kaldi` that describes it."""
    manifest = write(root, settings, progress=progress)
    folder = Path(root).expanduser().absolute() / "kaldi"
    write_kaldi(manifest, folder)
    return manifest, folder


def _write_sessions(manifest: Manifest, speakers: Sequence[str], folder: Path) -> None:
    """`speakers` are IEMOCAP's names, 1F, 1M, 2F, …, for the manifest's in their order."""
    names = dict(zip(manifest.speakers, speakers, strict=True))
    dialogues: dict[str, list[tuple[str, Utterance, str]]] = {}
    turns: Counter[str] = Counter()
    labels: Counter[tuple[str, str]] = Counter()
    for row in manifest:
        session, speaker = names[row.speaker][0], names[row.speaker][1]
        number, turn = divmod(turns[row.speaker], _TURNS)
        turns[row.speaker] += 1
        marker = "FM"[number % 2]  # who wears the markers alternates, whoever speaks
        dialogue = f"Ses0{session}{marker}_impro{number + 1:02d}"
        choice = _LABELS[row.emotion]
        label = choice[labels[row.speaker, row.emotion] % len(choice)]
        labels[row.speaker, row.emotion] += 1
        dialogues.setdefault(dialogue, []).append((f"{dialogue}_{speaker}{turn:03d}", row, label))
    for dialogue, said in dialogues.items():
        home = folder / f"Session{dialogue[4]}"
        lines, texts = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
        for place, (name, row, label) in enumerate(said):
            times = f"{place * _SECONDS:.4f} - {(place + 1) * _SECONDS:.4f}"
            lines += [f"[{times}]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]", ""]
            texts.append(f"{name} [{times.replace(' ', '')}]: {row.text}")
            sound = Path(row.audio)
            _link(sound, home / "sentences" / "wav" / dialogue / f"{name}{sound.suffix}")
        write_text(home / "dialog" / "transcriptions" / f"{dialogue}.txt", "\n".join(texts) + "\n")
        write_text(home / "dialog" / "EmoEvaluation" / f"{dialogue}.txt", "\n".join(lines) + "\n")


def _link(source: Path, target: Path) -> None:
    """`target` as another name of the file `source`, or as a copy of it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.stat().st_size == source.stat().st_size:
            return
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:  # a file system without links, or across two of them
            shutil.copyfile(source, target)
    except OSError as problem:
        raise cannot_write(target, problem, ManifestError) from problem
