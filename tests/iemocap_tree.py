"""A small IEMOCAP release written by hand, with the counts of the improvised part."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

# Improvised utterances by speaker: happy with excited, neutral, sad, angry.
IMPROVISED = {
    "1F": (72, 119, 43, 37), "1M": (60, 104, 61, 25), "2F": (113, 90, 63, 7), "2M": (78, 127, 37, 15),
    "3F": (80, 95, 108, 22), "3M": (69, 103, 82, 68), "4F": (129, 51, 41, 47), "4M": (66, 123, 40, 37),
    "5F": (124, 151, 73, 18), "5M": (156, 136, 60, 13),
}  # fmt: skip
FOUR_BY_SESSION = {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}
ALL = {"xxx": 2507, "fru": 1849, "neu": 1708, "ang": 1103, "sad": 1084, "exc": 1041, "hap": 595,
       "sur": 107, "fea": 40, "oth": 3, "dis": 2}  # fmt: skip


class Tree:
    """Writes label lines and empty sentence files, 200 of a speaker to a dialogue, as the release lays them out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.numbers: Counter[str] = Counter()

    def add(self, speaker: str, label: str, count: int, scenario: str) -> None:
        for _ in range(count):
            number = self.numbers[speaker + scenario]
            self.numbers[speaker + scenario] += 1
            dialog, place = divmod(number, 200)
            marker = "FM"[dialog % 2]  # the marker side alternates, whoever speaks
            turn = f"impro{dialog + 1:02d}" if scenario == "improvised" else f"script{dialog + 1:02d}_1"
            if scenario == "improvised" and dialog == 0:
                turn = "impro05a"  # dialogues with a letter behind the number exist
            name = f"Ses0{speaker[0]}{marker}_{turn}"
            self.utterance(name, f"{name}_{speaker[1]}{place:03d}", label)

    def utterance(self, dialog: str, name: str, label: str) -> None:
        self.ids.append(name)
        line = f"[6.2901 - 8.2357]\t{name}\t{label}\t[2.5000, 3.0000, 3.5000]"
        self.lines.setdefault(dialog, []).append(line)

    def write(self) -> Path:
        header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"
        votes = "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n"
        for dialog, lines in self.lines.items():
            session = self.root / f"Session{dialog[4]}"
            labels = session / "dialog" / "EmoEvaluation"
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{dialog}.txt").write_text(header + "".join(f"\n{line}\n{votes}" for line in lines))
            (labels / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07[junk")
            (session / "sentences" / "wav" / dialog).mkdir(parents=True, exist_ok=True)
        blank = self.root / "blank"
        blank.touch()
        for name in self.ids:  # links are made five times as fast as files
            os.link(blank, f"{self.root}/Session{name[4]}/sentences/wav/{name.rsplit('_', 1)[0]}/{name}.wav")
        blank.unlink()
        listener = self.root / "Session1" / "dialog" / "EmoEvaluation" / "Self-evaluation"
        listener.mkdir()
        (listener / "Ses01F_impro01_f_self.txt").write_text("[0 - 1]\tnot a label line\n")
        return self.root


def improvised(root: Path) -> Tree:
    tree = Tree(root)
    for speaker, (happy, neutral, sad, angry) in IMPROVISED.items():
        tree.add(speaker, "hap", happy // 2, "improvised")
        tree.add(speaker, "exc", happy - happy // 2, "improvised")
        tree.add(speaker, "neu", neutral, "improvised")
        tree.add(speaker, "sad", sad, "improvised")
        tree.add(speaker, "ang", angry, "improvised")
    tree.add("1F", "xxx", 30, "improvised")
    tree.add("1M", "fru", 20, "improvised")
    return tree
