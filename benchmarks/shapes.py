"""Invented voices in the shapes of the paper's two corpora, whose recordings need a licence.

    python -m benchmarks.shapes iemocap FOLDER     # 2,943 utterances, 10 speakers, 0.4 GB; --corpus iemocap reads it
    python -m benchmarks.shapes mandarin FOLDER    # 53,803 utterances, 250 speakers, 4.8 GB; read FOLDER/kaldi

Figures from invented voices support no claim about speech.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unheard.corpora.iemocap import SUBSETS
from unheard.corpora.kaldi import write_kaldi
from unheard.corpora.synthetic import SyntheticSettings, write
from unheard.files import write_text
from unheard.manifest import FOUR, LABELS, Manifest, Utterance

_TURNS = 40  # of a speaker in a dialogue; the release has some 30
_LABELS = {"angry": ("ang",), "happy": ("hap", "exc"), "neutral": ("neu",), "sad": ("sad",)}
_SECONDS = 5.0  # from one turn to the next: nobody reads the times


def iemocap_shaped(counts: Mapping[str, Mapping[str, int]], seed: int = 0) -> SyntheticSettings:
    """Return settings of ten speakers in five sessions with long-tailed durations: median 3.4 s, up to 29 s.

    `counts` maps speaker -> emotion -> number of utterances, the woman before the man of each session.
    """
    emotions = tuple(label for label in LABELS if any(row.get(label) for row in counts.values()))
    return SyntheticSettings(
        speakers=len(counts),
        sentences=40,
        emotions=tuple(sorted(emotions)),
        counts=tuple(tuple(row.get(label, 0) for label in sorted(emotions)) for row in counts.values()),
        dev_speakers=1,
        test_speakers=1,
        sessions=True,
        mean_duration=4.4,
        std_duration=3.6,
        shortest=0.6,
        longest=29.0,
        seed=seed,
    )


def mandarin_shaped(entanglement: float = 0.0, seed: int = 0) -> SyntheticSettings:
    """Return settings of 250 speakers, 53,803 utterances of 2.80 ± 0.68 s; train 43,202, dev 5,407, test 5,194."""
    totals = [*_spread(43202, 200), *_spread(5407, 25), *_spread(5194, 25)]
    counts = []
    for speaker, total in enumerate(totals):
        row = _spread(total, len(FOUR))
        turn = speaker % len(row)  # the emotion with one utterance more differs between speakers
        counts.append((*row[turn:], *row[:turn]))
    base = SyntheticSettings(mean_duration=2.8, std_duration=0.68, longest=8.0, sentences=100, seed=seed)
    return replace(
        base,
        speakers=250,
        dev_speakers=25,
        test_speakers=25,
        counts=tuple(counts),
        entanglement=entanglement,
    )


def _spread(total: int, places: int) -> Sequence[int]:
    """Split `total` into `places` whole numbers that differ by at most one."""
    return [total // places + (place < total % places) for place in range(places)]


def iemocap_counts() -> dict[str, dict[str, int]]:
    """Return the utterances of the paper's subset of IEMOCAP: speaker -> emotion -> number, woman before man."""
    return {speaker: dict(counts) for speaker, counts in SUBSETS["paper"].speaker_counts.items()}


def write_iemocap(root: str | Path, *, seed: int = 0) -> Manifest:
    """Make a synthetic corpus with the counts of IEMOCAP's improvised four-class subset, in IEMOCAP's layout too.

    `root/Session1` to `root/Session5` hold label files, transcripts and links to the sound: the reader of `iemocap`
    finds 2943 utterances of ten speakers. Returns the manifest of the synthetic corpus.
    """
    counts = iemocap_counts()
    manifest = write(root, iemocap_shaped(counts, seed))
    folder = Path(root).expanduser().absolute()
    names = dict(zip(manifest.speakers, counts, strict=True))
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
    for dialogue, utterances in dialogues.items():
        home = folder / f"Session{dialogue[4]}"
        lines, texts = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
        for place, (name, row, label) in enumerate(utterances):
            times = f"{place * _SECONDS:.4f} - {(place + 1) * _SECONDS:.4f}"
            lines += [f"[{times}]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]", ""]
            texts.append(f"{name} [{times.replace(' ', '')}]: {row.text}")
            sound = Path(row.audio)
            _link(sound, home / "sentences" / "wav" / dialogue / f"{name}{sound.suffix}")
        write_text(home / "dialog" / "transcriptions" / f"{dialogue}.txt", "\n".join(texts) + "\n")
        write_text(home / "dialog" / "EmoEvaluation" / f"{dialogue}.txt", "\n".join(lines) + "\n")
    return manifest


def write_mandarin(root: str | Path) -> Manifest:
    """Make a synthetic corpus in the shape of the Mandarin one, and the Kaldi data directory `root/kaldi`."""
    manifest = write(root, mandarin_shaped())
    write_kaldi(manifest, Path(root) / "kaldi")
    return manifest


def _link(source: Path, target: Path) -> None:
    """Make `target` another name of the file `source`, or a copy where the disk has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.exists() and target.stat().st_size == source.stat().st_size):
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


if __name__ == "__main__":
    made = {"iemocap": write_iemocap, "mandarin": write_mandarin}[sys.argv[1]](sys.argv[2])
    print(f"{len(made)} utterances of {len(made.speakers)} speakers in {sys.argv[2]}")
