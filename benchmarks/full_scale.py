"""The paper's two experiments at full size, on invented voices: does everything hold, and in how much memory?

    python -m benchmarks.full_scale iemocap FOLDER     # 2,943 utterances, 10 speakers; minutes
    python -m benchmarks.full_scale mandarin FOLDER    # 53,803 utterances, 250 speakers; 6 GB of disk, about an hour

Each step is the command a user would type. FOLDER/full-scale.json says what each took; a second call goes on where the
first stopped. Raises where a count is not the corpus's.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SYSTEMS = "ser,mtl,dat,cgt"


@dataclass(frozen=True)
class Scale:
    """What a corpus must come to, and the flags of its experiment.

    `parts` are speakers and utterances a part (utterances None: they follow from the draw); `thin` takes every so
    manieth utterance of each speaker for the run of all systems.
    """

    utterances: int
    speakers: int
    experiment: tuple[str, ...]
    parts: dict[str, tuple[int, int | None]]
    thin: int = 1
    workers: int = 2


SCALES = {
    "iemocap": Scale(
        2943,
        10,
        ("--recipe", "paper", "--protocol", "paired", "--test", "both", "--sizes", "iemocap", "--folds", "1"),
        # session 1 is held out: its woman validates while its man is tested, and the other way round
        {"train": (8, 2422), "dev": (1, None), "test": (1, None)},
    ),
    "mandarin": Scale(
        53803,
        250,
        ("--recipe", "paper", "--protocol", "random", "--n", "200,25,25", "--sizes", "mandarin"),
        {"train": (200, None), "dev": (25, None), "test": (25, None)},
        thin=16,
    ),
}


@dataclass
class Step:
    """A command, how long it took, and the most anonymous memory it held (MB): one process, and all together."""

    command: str
    seconds: float = 0.0
    peak_process_mb: float = 0.0
    peak_together_mb: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)


class Proof:
    """The steps of one corpus in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.scale, self.folder = name, SCALES[name], folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.notes = self.folder / "full-scale.json"
        self.steps: dict[str, Step] = {}
        if self.notes.exists():
            self.steps = {name: Step(**values) for name, values in json.loads(self.notes.read_text()).items()}

    def step(self, name: str, *arguments: str, module: str = "unheard") -> Step:
        """Run `unheard ARGUMENTS` (or another module) unless it was done before."""
        if name not in self.steps:
            print(f"{self.name} {name}: {module} {' '.join(arguments)}", flush=True)
            done = watched([sys.executable, "-m", module, *arguments])
            done.command = f"{module} {' '.join(arguments)}".replace(str(self.folder), "FOLDER")
            self.note(name, done)
        return self.steps[name]

    def note(self, name: str, step: Step) -> None:
        self.steps[name] = step
        self.notes.write_text(json.dumps({name: asdict(step) for name, step in self.steps.items()}, indent=1) + "\n")
        print(f"  {asdict(step)}", flush=True)

    def run(self) -> dict[str, Step]:
        """All steps; the corpus, its features, its split, a whole epoch, and all four systems."""
        self.corpus()
        self.features()
        self.epoch()
        self.four_systems()
        return self.steps

    def corpus(self) -> None:
        corpus = self.folder / "corpus"
        self.step("corpus", self.name, str(corpus), module="benchmarks.shapes")
        if self.name == "iemocap":
            self.step("manifest", "prepare", "iemocap", str(corpus), "--subset", "paper", "-o", str(self.manifest))
        rows = self.rows()
        expect("utterances", len(rows), self.scale.utterances)
        expect("speakers", len({row["speaker"] for row in rows}), self.scale.speakers)

    @property
    def manifest(self) -> Path:
        """What the experiment reads: the CSV of the reader of IEMOCAP, or the Kaldi data directory."""
        return self.folder / "manifest.csv" if self.name == "iemocap" else self.folder / "corpus" / "kaldi"

    def rows(self) -> list[dict[str, str]]:
        if self.name == "iemocap":
            return read_rows(self.manifest)
        speakers = dict(line.split(None, 1) for line in (self.manifest / "utt2spk").read_text().splitlines())
        return [{"id": name, "speaker": speaker} for name, speaker in speakers.items()]

    def features(self) -> None:
        step = self.step("features", "features", str(self.manifest), "-o", str(self.folder / "store"))
        if not step.found:
            from unheard.features import FeatureStore

            store = FeatureStore(self.folder / "store")
            expect("utterances with features", len(store.ids), self.scale.utterances)
            frames = len(store.matrix)
            step.found = {"frames": frames, "megabytes": round(store.matrix.nbytes / 1e6), "dim": store.dim}
            self.note("features", step)

    def experiment(self, name: str, manifest: Path, systems: str, out: Path) -> Step:
        step = self.step(
            name,
            "experiment",
            *("--manifest", str(manifest), "--store", str(self.folder / "store"), "--out", str(out)),
            *self.scale.experiment,
            *("--systems", systems, "--epochs", "1", "--workers", "1" if systems == "ser" else str(self.scale.workers)),
        )
        if not step.found:
            cells = [json.loads(path.read_text()) for path in sorted(out.glob("cells/*/history.jsonl"))]
            results = sorted(out.glob("cells/*/result.json"))
            expect("trainings", len(results), len(systems.split(",")))
            step.found = {"parts": parts(out / "splits.csv")} | {
                path.parent.name.partition("-")[0]: {
                    "steps": record["steps"],
                    "frames": record["frames"],
                    "frames_per_second": round(record["frames"] / record["train_seconds"]),
                }
                for path, record in zip(results, cells, strict=True)
            }
            self.note(name, step)
        return step

    def epoch(self) -> None:
        """SER_only on all training utterances, once."""
        step = self.experiment("epoch of SER_only", self.manifest, "ser", self.folder / "run")
        for part, (speakers, utterances) in self.scale.parts.items():
            found = step.found["parts"][part]
            expect(f"{part} speakers", found["speakers"], speakers)
            if utterances is not None:
                expect(f"{part} utterances", found["utterances"], utterances)
        if self.scale.speakers == 250:  # every utterance of every speaker is in exactly one part
            expect("utterances", sum(f["utterances"] for f in step.found["parts"].values()), self.scale.utterances)

    def four_systems(self) -> None:
        """One epoch of each; where CGT would take hours, on every sixteenth utterance of each speaker."""
        if self.scale.thin == 1:
            self.experiment("epoch of all systems", self.manifest, SYSTEMS, self.folder / "run")
            return
        few = self.folder / "few.csv"
        if not few.exists():
            thin_out(self.folder / "corpus" / "manifest.csv", few, self.scale.thin)
        self.experiment("short run of all systems", few, SYSTEMS, self.folder / "run-few")


def parts(splits: Path) -> dict[str, dict[str, int]]:
    """Speakers and utterances of each part of the first reading."""
    rows = read_rows(splits)
    first = {name: next(row["direction"] for row in rows if row["part"] == name) for name in ("train", "dev", "test")}
    first |= {"test": first["dev"]}
    chosen = [row for row in rows if row["direction"] == first[row["part"]]]
    utterances = Counter(row["part"] for row in chosen)
    return {
        part: {"speakers": len({r["speaker"] for r in chosen if r["part"] == part}), "utterances": count}
        for part, count in utterances.items()
    }


def thin_out(source: Path, target: Path, every: int) -> None:
    """Every so manieth row of each speaker, audio paths absolute."""
    seen: Counter[str] = Counter()
    rows = []
    for row in read_rows(source):
        if seen[row["speaker"]] % every == 0:
            rows.append(row | {"audio": str(source.parent / row["audio"])})
        seen[row["speaker"]] += 1
    with target.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def expect(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: {found}, not {wanted}")


def watched(command: list[str]) -> Step:
    """Run `command`; what it took. Memory is read from /proc twice a second, 0 where there is none."""
    began = time.monotonic()
    step = Step("")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, step, over))
    watcher.start()
    code = process.wait()
    over.set()
    watcher.join()
    step.seconds = round(time.monotonic() - began, 1)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return step


def _watch(pid: int, step: Step, over: threading.Event) -> None:
    while not over.wait(0.5):
        held = [anonymous(one) for one in family(pid)]
        step.peak_process_mb = max([step.peak_process_mb, *held])
        step.peak_together_mb = max(step.peak_together_mb, round(sum(held), 1))


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = path.read_text().split()
        except OSError:
            continue
        for child in below:
            found += family(int(child))
    return found


def anonymous(pid: int) -> float:
    """MB of memory that is no file's: what a process holds of its own."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
    return round(kilobytes / 1e3, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=sorted(SCALES))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name, step in Proof(given.corpus, given.folder).run().items():
        print(f"{name}: {step.seconds:.0f} s, {step.peak_process_mb:.0f} MB a process, {step.found or ''}")


if __name__ == "__main__":
    main()
