"""Sections on what was done, so that a reader can check and repeat it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from unheard.corpora import corpus_names, get_corpus
from unheard.errors import counted
from unheard.experiments.baselines import NAMES
from unheard.experiments.records import RunRecords
from unheard.experiments.summary import TUNED
from unheard.report.content import NOTHING, Block, Facts, Section, Table, Text, listed
from unheard.splits import default_protocol
from unheard.splits.protocols import natural


def describe(run: RunRecords) -> str:
    """Describe corpus, protocol and trainings in one line."""
    settings = run.settings
    speakers = {row.get("speaker", "") for row in run.utterances.values()}
    seeds = sorted({seed.seed for line in run.lines for seed in line.seeds})
    transductive = settings.normalise == "speaker"
    return (
        f"{counted(len(run.utterances), 'utterance')} of {counted(len(speakers), 'speaker')}, {listed(run.labels)}; "
        f"{protocol_name(run)}, {counted(len(run.folds), 'fold')}, {counted(len(seeds), 'complete seed')}, "
        f"{run.epochs} epochs" + ", transductive (normalised with the test speakers' recordings)" * transductive
    )


def corpora_of(run: RunRecords) -> list[str]:
    """Return the corpora of a run that have a reader, by name."""
    named = {*run.settings.corpus.split(","), *(row.get("corpus", "") for row in run.utterances.values())}
    return sorted({name.strip().lower().replace("_", "-") for name in named} & set(corpus_names()))


def corpus_name(run: RunRecords) -> str:
    """Return the title of the corpus; for a manifest, what its rows or its file are called."""
    ours = corpora_of(run)
    named = sorted({row.get("corpus", "") for row in run.utterances.values()} - {"", *ours})
    return listed([get_corpus(name).title for name in ours] + named) or run.settings.manifest.rpartition("/")[2]


def protocol_name(run: RunRecords) -> str:
    """Return the protocol of the split."""
    settings = run.settings
    name = settings.protocol
    if not name:  # the corpus's usual one
        few = len({row.speaker for row in run.splits}) < 10
        own = settings.corpus.lower().replace("_", "-")
        name = "loso" if few and own not in ("emodb", "synthetic") else default_protocol(own)[0]
    if len({row.direction for row in run.splits if row.part == "test"}) > 1:
        return f"{name}, both directions"
    return f"{name}, {settings.test} tested" if name == "paired" else name


def protocol(run: RunRecords) -> Section:
    """Corpus, split, recipe."""
    settings = run.settings
    rows = list(run.utterances.values())
    counts = Counter(row.get("emotion", "") for row in rows)
    genders = {row.get("speaker", ""): row.get("gender", "") for row in rows}
    by_gender = sorted(Counter(gender for gender in genders.values() if gender).items())
    people = str(len(genders)) + (f" ({', '.join(f'{n} {gender}' for gender, n in by_gender)})" if by_gender else "")
    texts = {row["text"] for row in rows if row.get("text")}
    training = dataclasses.asdict(settings.training)
    facts = _facts(
        ("Corpus", corpus_name(run) + (f", subset {settings.subset}" if settings.subset else "")),
        ("Language", listed(sorted({row.get("language", "") for row in rows} - {""}))),
        ("Utterances", f"{len(rows):,}: " + ", ".join(f"{label} {counts[label]:,}" for label in run.labels)),
        ("Speakers", people),
        ("Different texts", f"{len(texts):,}" if texts else ""),
        ("Labels renamed", ", ".join(f"{old} to {new}" for old, new in settings.map.items())),
        ("Channel", settings.channel if settings.channel != "mix" else ""),
        ("Protocol", f"{protocol_name(run)}; groups: {settings.group}; split seed {settings.split_seed}"),
        ("Normalisation", settings.normalise),
        ("Network", _values(dataclasses.asdict(settings.network), everything=True)),
        ("Features", _values(settings.features.as_dict())),
        ("Training", _values({**training, "augment": None, "report_epochs": None}, everything=True)),
        ("Augmentation", _values(training["augment"])),
        ("Options of systems", json.dumps(settings.options, ensure_ascii=False) if settings.options else ""),
    )
    absent = [Text(f"Not in this run's folder: {missing}.") for missing in run.absent]
    return Section("protocol", "Protocol", (facts, folds(run), *licence(run), *absent))


def _values(values: Mapping[str, Any], everything: bool = False) -> str:
    """Settings as words; what is off or empty is left out unless `everything` is wanted."""
    shown = {name: value for name, value in values.items() if value or (everything and value is not None)}
    words = {name: "yes" if value is True else "no" if value is False else value for name, value in shown.items()}
    return ", ".join(f"{name} {word}" for name, word in words.items())


def folds(run: RunRecords) -> Table:
    """Who trains, validates and is tested in every fold and direction."""
    parts: dict[tuple[int, str, str], Counter[str]] = {}
    for row in run.splits:
        parts.setdefault((row.fold, row.direction, row.part), Counter())[row.speaker] += 1
    digests: dict[int, dict[str, None]] = {}
    for cell in run.cells:
        digests.setdefault(cell.fold, {})[str(cell.result.get("proof", {}).get("data", "") or NOTHING)] = None
    rows = tuple(
        (f"fold {fold}", direction if direction != "test" else NOTHING,
         _people(parts.get((fold, "", "train"), Counter()), 0), _people(parts.get((fold, direction, "dev"), Counter())),
         _people(counts), ", ".join(digests.get(fold, (NOTHING,))))
        for (fold, direction, part), counts in parts.items()
        if part == "test"
    )  # fmt: skip
    heads = ("Fold", "Direction", "Trained on", "Validated on", "Tested on", "Data digest")
    return Table("folds", "The split: speakers, with utterances in brackets", heads, rows)


def _people(who: Counter[str], few: int = 8) -> str:
    """Speakers and their number of utterances; their names, where they are few."""
    names = sorted(who, key=natural)
    words = ", ".join(names) if len(names) <= few else counted(len(names), "speaker")
    return f"{words} ({sum(who.values()):,})"


def licence(run: RunRecords) -> list[Block]:
    """Licence, citation and traps of the corpora, as their readers know them."""
    known = corpora_of(run)
    if not known:
        return [Text("Licence and citation of the corpus are not known here: the manifest names no known corpus.")]
    return [
        _facts(("Licence", one.licence), ("Please cite", one.citation), ("Home", one.homepage),
               *(("Beware", trap) for trap in one.traps))
        for one in map(get_corpus, known)
    ]  # fmt: skip


def _facts(*items: tuple[str, str], code: tuple[str, ...] = ()) -> Facts:
    """Facts without those that are empty."""
    return Facts(tuple(item for item in items if item[1]), code)


def proof(run: RunRecords) -> Section:
    """Hashes, versions, seeds and the command."""
    proofs = [cell.result["proof"] for cell in run.cells if isinstance(cell.result.get("proof"), Mapping)]
    versions: dict[str, set[str]] = {}
    for one in proofs:
        for name, version in one.get("versions", {}).items():
            versions.setdefault(name, set()).add(str(version) or "not installed")
    facts = _facts(
        ("Command", again(run)),
        ("Digest of the split", run.split_digest),
        ("Features digest", _all(one.get("features") for one in proofs)),
        ("Training seeds", ", ".join(map(str, sorted({cell.seed for cell in run.cells})))),
        ("Trainings finished", str(len(run.cells))),
        ("Devices", _all(one.get("device") for one in proofs)),
        *((f"Version of {name}", ", ".join(sorted(found))) for name, found in versions.items()),
        code=("Command", "Digest of the split", "Features digest"),
    )
    words = (
        "Everything above is computed from the predictions in the run's folder. The data digest of a fold covers its "
    )
    return Section("proof", "Proof", (Text(f"{words}decoded samples and labels."), facts))


def again(run: RunRecords) -> str:
    """Return the command for the whole run; config.yaml is of the last call, earlier ones may have asked for more."""
    settings = run.settings
    systems = list(dict.fromkeys(line.system for line in run.lines if not line.chosen and line.system in NAMES))
    seeds = max((seed.seed + 1 for line in run.lines for seed in line.seeds), default=0)
    words = ["unheard experiment --config config.yaml --out NEW"]
    words += [f"--systems {','.join(systems)}"] * (set(systems) != set(settings.systems))
    words += [f"--seeds {seeds}"] * (seeds > settings.seeds)
    words += [f"--folds {len(run.folds)}"] * (0 < settings.folds < len(run.folds))
    ways = [("optuna" if line.choice == TUNED else "grid") for line in run.lines if line.chosen]
    words += [f"--tune {way}" for way in ways[:1] if not settings.tune]
    words += ["--invariance"] * (run.invariance is not None and not settings.invariance)
    return " ".join(words)


def _all(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value))
