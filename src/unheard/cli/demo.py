"""`unheard demo`: what the package does, shown on real clips and on a corpus with a shortcut, or on a real corpus.

The shortcut is an emotion that the speaker's recording channel betrays in training only. In the synthetic corpus at
entanglement 1 each training speaker favours one emotion and speaks through a channel that goes with it; channels and
emotions of test speakers are independent. A system that learned the channel instead of the voice predicts the channel's
emotion.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.intervals import DRAWS, mean_with_interval
from unheard.cli.common import Workers, option, say
from unheard.corpora.synthetic.plan import SyntheticSettings, voices
from unheard.errors import counted
from unheard.experiments.summary import Line, baseline_of
from unheard.files import markdown_table

PAUSE = 1.5  # seconds between the clips of the joined recording

VOICES = SyntheticSettings(speakers=32, dev_speakers=8, test_speakers=8, entanglement=1.0)
"""16 speakers to train on, whose channel betrays the emotion, 8 to validate and 8 to test, 16 utterances each."""

NETWORK = {"tdnn": [[32, 5, 1], [32, 3, 2]], "lstm": 0, "dense": 64, "hidden": [32], "dropout": 0.0}
TRAINING = {
    "epochs": 30, "optimizer": "adamw", "schedule": "onecycle", "lr": 0.004, "weight_decay": 0.01, "select": "last",
    "batchnorm": "running",
}  # fmt: skip
EXPERIMENT = {
    "corpus": "synthetic", "protocol": "given", "column": "part", "recipe": "paper", "features": {"thin": 4},
    "network": NETWORK, "training": TRAINING,
}  # fmt: skip
"""A small network without dropout that is trained in seconds; systems and objectives are the paper's."""

MEANING = """
Only DAT penalises what the embedding tells of the speaker; MTL and CGT train it to tell speakers apart. On other
synthetic speakers, CGT's perturbed inputs weakened the shortcut at no size of the perturbation that was tried
(docs/research/fidelity.md, "Why CGT leaves a shortcut")."""


def demo(
    *,
    out: Annotated[Path, option("Folder to write; a repeated call does only what is missing.")] = Path("demo"),
    corpus: Annotated[str, option("Use a real corpus, which is downloaded, instead of synthetic voices.")] = "",
    data: Annotated[Path | None, option("Folder of that corpus, if you have it already.")] = None,
    seeds: Annotated[int, option("Number of training seeds.")] = 5,
    epochs: Annotated[int, option("Epochs of each training on synthetic voices (0: 30).")] = 0,
    workers: Workers = 0,
) -> int:
    """Show what the package does, in two minutes, offline: the model `starter` on real clips, then the four systems.

    Example: unheard demo --out demo

    The systems are compared on synthetic voices. In training, but not in the test, the speaker's channel reveals the
    emotion; the table shows how far each system relies on this shortcut. Such results support no claim about speech.
    With --corpus, such as emodb, a network and an SVM are compared on unseen speakers, and the network is adapted to
    each of them.
    """
    recognise_samples(out)
    return of_corpus(out / corpus, corpus, data, workers) if corpus else of_shortcut(out, seeds, epochs, workers)


def recognise_samples(out: Path) -> None:
    """Print truth, prediction and confidence of the samples, and draw the timeline of all of them in a row."""
    from unheard.audio import read_audio
    from unheard.recogniser import load
    from unheard.samples import samples

    recogniser = load("starter")
    print("The model `starter` on four clips of speakers who act an emotion\n")
    print(f"{'clip':16}{'true':10}{'predicted':10} confidence")
    clips, truth, end, right = [], [], 0.0, 0
    for sample in samples():
        found = recogniser.predict(sample.path)
        confidence = f"{max(found.probabilities.values()):.0%}" if found.probabilities else found.abstained
        wrong = "" if found.label == sample.emotion else "  wrong"
        right += not wrong
        print(f"{sample.file:16}{sample.emotion:10}{found.label or '–':10} {confidence}{wrong}")
        clips += [read_audio(sample.path, sample_rate=16_000), np.zeros(round(PAUSE * 16_000), np.float32)]
        truth.append((end + len(clips[-2]) / 32_000, sample.emotion))
        end += (len(clips[-2]) + len(clips[-1])) / 16_000
    axes = recogniser.predict(np.concatenate(clips[:-1]), sample_rate=16_000).plot()
    for middle, emotion in truth:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        axes.text(middle, 0, emotion, ha="center", va="center", fontsize=9, bbox=box)
    axes.set_yticks([])
    axes.set_title("colour: predicted; text: true", loc="left", fontsize=9)
    out.mkdir(parents=True, exist_ok=True)
    axes.figure.savefig(out / "timeline.png", dpi=150, bbox_inches="tight")
    print(f"\n{right} of {len(truth)} right. Timeline of the clips in a row: {out / 'timeline.png'}\n")


def of_shortcut(out: Path, seeds: int, epochs: int, workers: int) -> int:
    """Compare the four systems on the synthetic corpus with a shortcut, and print what they do to it."""
    from unheard.corpora.synthetic import write
    from unheard.experiments.run import experiment

    say("Making synthetic voices")
    write(out / "voices", VOICES)
    settings: dict[str, Any] = {**EXPERIMENT, "training": {**TRAINING, "epochs": epochs or TRAINING["epochs"]}}
    settings |= {"root": str(out / "voices"), "out": str(out / "shortcut")}
    run = experiment(**settings, seeds=seeds, workers=workers, say=say)
    print("The four systems on synthetic speakers, whose channel reveals the emotion in training, not in the test\n")
    print(shortcut_table(run.records.lines, run.records.labels, channel_emotions()))
    table = run.folder / "table.md"
    print(f"\n{counted(seeds, 'seed')}, percent, 95 % intervals over the test speakers. All results: {table}")
    print(MEANING)
    return int(bool(run.failed))


def channel_emotions(settings: SyntheticSettings = VOICES) -> dict[str, str]:
    """Return speaker -> the emotion that goes with the speaker's channel among the training speakers."""
    return {voice.name: settings.emotions[voice.colour] for voice in voices(settings)}


def shortcut_table(lines: Sequence[Line], labels: Sequence[str], channels: Mapping[str, str]) -> str:
    """Return a table of the systems in Markdown, means over seeds with intervals over test speakers.

    WA; among the utterances whose emotion is not the channel's, WA and the share answered with the channel's emotion
    (the shortcut), with its difference from SER_only.
    """
    rows = []
    for line in (line for line in lines if line.seeds):
        right, followed, speaker, against = answers(line, labels, channels)
        everywhere = np.ones_like(against)
        shown = [_shown(x, speaker, of) for x, of in ((right, everywhere), (right, against), (followed, against))]
        more, base = "", baseline_of(line, lines)
        if base is not None and base is not line:
            more = _shown(followed - answers(base, labels, channels)[1], speaker, against, sign=True)
        rows.append([line.name, *shown, more])
    heads = ["System", "WA", "WA, channel misleads", "predicts the channel's emotion", "difference from SER_only"]
    return markdown_table(heads, rows)


def answers(
    line: Line, labels: Sequence[str], channels: Mapping[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_], NDArray[np.bool_]]:
    """Per test utterance (n,): right and channel's emotion answered (means over seeds), speaker, channel misleads."""
    first = line.seeds[0].test
    channel = np.array([labels.index(channels[name]) for name in first.speakers])
    predicted = np.stack([seed.test.predicted for seed in line.seeds])  # (seeds, n)
    right, followed = ((predicted == given).mean(axis=0) for given in (first.truth, channel))
    return right, followed, np.array(first.speakers), channel != first.truth


def _shown(x: NDArray[np.float64], speaker: NDArray[np.str_], of: NDArray[np.bool_], sign: bool = False) -> str:
    """The mean of `x` over the utterances `of`, with its interval over speakers, in percent."""
    _, cluster = np.unique(speaker[of], return_inverse=True)
    found = mean_with_interval(x[of], cluster.reshape(-1), DRAWS)
    whole = [round(100 * each) for each in found]
    value, low, high = (f"{n:{'+' if sign and n else ''}}".replace("-", "−") for n in whole)  # zero has no sign
    return f"{value} ({low} to {high})"


def of_corpus(out: Path, corpus: str, data: Path | None, workers: int) -> int:
    """Cross-validate a network and an SVM on a real corpus, and adapt the network to four utterances."""
    from unheard.corpora.fetch import fetch
    from unheard.experiments.adaptation import adapt
    from unheard.experiments.run import experiment

    root = data or fetch(corpus, Path("data") / corpus)
    settings: dict[str, Any] = {"corpus": corpus, "root": str(root), "out": str(out), "systems": ("ser", "pooled")}
    run = experiment(**settings, workers=workers, say=say)
    print(run.table)
    if run.failed:
        return 1
    print("Before (k = 0) and after adaptation to four unlabelled utterances of each test speaker:\n")
    sys.stdout.write(adapt(run.folder, sizes=[0, 4], say=say))
    return 0
