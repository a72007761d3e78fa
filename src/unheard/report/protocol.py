"""Sections on what was done, so that a reader can check it and do it again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unheard.experiments.config import Experiment
from unheard.experiments.records import NAMES, RunRecords, digest_of
from unheard.report.content import Block, Cell, Column, Facts, Section, Table, Text, counted, listed, percent, plain
from unheard.splits.protocols import natural


def describe(run: RunRecords) -> str:
    """One line on the corpus, the protocol and the trainings."""
    settings = run.settings
    rows = run.utterances.values()
    speakers = {row.get("speaker", "") for row in rows}
    seeds = sorted({seed.seed for line in run.lines for seed in line.seeds})
    heard = ", transductive (normalised with the test speakers' recordings)" if settings.normalise == "speaker" else ""
    return (
        f"{counted(len(run.utterances), 'utterance')} of {counted(len(speakers), 'speaker')}, {listed(run.labels)}; "
        f"{protocol_name(run)}, {counted(len(run.folds), 'fold')}, {counted(len(seeds), 'complete seed')}, "
        f"{settings.epochs:,} epochs{heard}"
    )


def corpora_of(run: RunRecords) -> list[str]:
    """The corpora of a run that have a reader here, by name."""
    from unheard.corpora import CORPORA

    named = {*run.settings.corpus.split(","), *(row.get("corpus", "") for row in run.utterances.values())}
    return sorted({name.strip().lower().replace("_", "-") for name in named} & set(CORPORA))


def corpus_name(run: RunRecords) -> str:
    """The corpus as people call it; for a manifest of one's own, what its rows or its file are called."""
    from unheard.corpora import get_corpus

    ours = corpora_of(run)
    named = sorted({row.get("corpus", "") for row in run.utterances.values()} - {"", *ours})
    titles = [get_corpus(name).title for name in ours] + named
    return listed(titles) or run.settings.manifest.rpartition("/")[2]


def protocol_name(run: RunRecords) -> str:
    """What the split was made by."""
    from unheard.splits import default_protocol

    settings = run.settings
    name = settings.protocol
    if not name:  # the corpus's usual one
        few = len({row.speaker for row in run.splits}) < 10
        own = settings.corpus.lower().replace("_", "-")
        name = "loso" if few and own not in ("emodb", "synthetic") else default_protocol(own)[0]
    directions = {row.direction for row in run.splits if row.part == "test"}
    if len(directions) > 1:
        return f"{name}, both directions"
    return f"{name}, {settings.test} tested" if name == "paired" else name


def protocol(run: RunRecords) -> Section:
    """Corpus, split, recipe."""
    settings = run.settings
    rows = list(run.utterances.values())
    counts = Counter(row.get("emotion", "") for row in rows)
    genders = {row.get("speaker", ""): row.get("gender", "") for row in rows}
    by_gender = Counter(gender for gender in genders.values() if gender)
    people = str(len(genders)) + (
        f" ({', '.join(f'{n} {gender}' for gender, n in sorted(by_gender.items()))})" if by_gender else ""
    )
    said = {word for row in rows for word in [row.get("text", "")] if word}
    languages = sorted({row.get("language", "") for row in rows} - {""})
    options = {system: dict(values) for system, values in settings.options.items()}
    items = [
        ("Corpus", corpus_name(run) + (f", subset {settings.subset}" if settings.subset else "")),
        ("Language", listed(languages)),
        ("Utterances", f"{len(rows):,}: " + ", ".join(f"{label} {counts[label]:,}" for label in run.labels)),
        ("Speakers", people),
        ("Different texts", f"{len(said):,}" if said else ""),
        ("Labels renamed", ", ".join(f"{old} to {new}" for old, new in settings.map.items())),
        ("Channel", settings.channel if settings.channel != "mix" else ""),
        ("Protocol", f"{protocol_name(run)}; kept apart by {settings.group}; split seed {settings.split_seed}"),
        ("Normalisation", settings.normalise),
        ("Network", ", ".join(f"{name} {_plain(value)}" for name, value in vars(settings.network).items())),
        ("Features", _set(settings.features.as_dict())),
        ("Recipe", recipe(settings)),
        ("Invented speakers", _set(vars(settings.training.augment))),
        ("Options of systems", json.dumps(options, ensure_ascii=False) if options else ""),
    ]
    blocks: list[Block] = [Facts(tuple(item for item in items if item[1])), folds(run), *licence(run)]
    blocks += [Text(f"Not in this run's folder: {missing}.") for missing in run.absent]
    return Section("protocol", "Protocol", tuple(blocks))


DECIDED = {"both": "decided for the mean of WA and UAR", "even": "decided for UAR"}


def recipe(settings: Experiment) -> str:
    """How the networks were trained, in a line."""
    training = settings.training
    if training.optimizer == "sgd":
        steps = f"SGD, momentum {training.momentum:g}" + " (Nesterov)" * training.nesterov
    else:
        steps = {"adamw": "AdamW"}[training.optimizer]
    if training.schedule == "constant":
        rate = f"learning rate {training.lr:g}"
    else:
        up = percent(training.warmup, digits=0)
        rate = f"one cycle up to a learning rate of {training.lr:g} ({up} % of the steps lead up)"
    said = [
        steps,
        rate,
        f"batch {training.batch_size}",
        f"weight decay {training.weight_decay:g}",
        f"label smoothing {training.label_smoothing:g}" * bool(training.label_smoothing),
        f"class weights {training.class_weights}" * (training.class_weights != "none"),
        f"{percent(training.enrol, digits=0)} % of the utterances with a voice heard before" * bool(training.enrol),
        "batch-norm statistics taken anew without dropout" * (training.batchnorm == "reestimate"),
        DECIDED.get(training.decision, ""),
        training.precision,
        f"{settings.epochs:,} epochs",
    ]
    chose = {"best": "the best epoch is chosen by validation accuracy", "last": "the last epoch is read out"}
    return ", ".join(filter(None, said)) + f"; {chose[training.select]}"


def _set(values: Mapping[str, Any]) -> str:
    """The settings that are at work: what is off or empty is left out."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items() if value)


def _plain(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def folds(run: RunRecords) -> Table:
    """Who trains, validates and is tested in every fold and reading."""
    trained: dict[int, dict[str, int]] = {}
    held: dict[tuple[int, str], dict[str, dict[str, int]]] = {}
    for row in run.splits:
        readings = held.setdefault((row.fold, row.direction), {"dev": {}, "test": {}}) if row.part != "train" else {}
        own = readings[row.part] if readings else trained.setdefault(row.fold, {})
        own[row.speaker] = own.get(row.speaker, 0) + 1
    digests: dict[int, dict[str, None]] = {}
    for cell in run.cells:
        digests.setdefault(cell.fold, {})[str(cell.result.get("proof", {}).get("data", "") or "–")] = None
    columns = (
        Column("Fold", "fold", False),
        Column("Reading", "reading", False),
        Column("Trained on", "train", False),
        Column("Validated by", "dev", False),
        Column("Tested on", "test", False),
        Column("Data digest", "data", False),
    )
    rows = tuple(
        (
            plain(fold, fold),
            plain(reading if reading != "test" else "–", reading),
            _people(trained.get(fold, {}), names=False),
            _people(parts["dev"]),
            _people(parts["test"]),
            plain(", ".join(digests.get(fold, ("–",)))),
        )
        for (fold, reading), parts in held.items()
    )
    return Table("folds", "The split: speakers, with utterances in brackets", columns, rows)


def _people(who: Mapping[str, int], *, names: bool = True) -> Cell:
    """Speakers and their number of utterances; their names as well, where they are few."""
    known = sorted(who, key=natural)
    total = sum(who.values())
    few = names and len(known) <= 8
    words = ", ".join(known) if few else counted(len(known), "speaker")
    data = {"speakers": len(known), "utterances": total, "names": "; ".join(known)}
    return Cell(f"{words} ({total:,})", data)


def licence(run: RunRecords) -> list[Block]:
    """Licence, citation and traps of the corpora, as their readers know them."""
    from unheard.corpora import get_corpus

    known = corpora_of(run)
    if not known:
        return [Text("Licence and citation of the corpus are not known here: the manifest names no corpus of ours.")]
    blocks: list[Block] = []
    for facts in map(get_corpus, known):
        items = [("Licence", facts.licence), ("Please cite", facts.citation), ("Home", facts.homepage)]
        items += [("Beware", trap) for trap in facts.traps]
        blocks.append(Facts(tuple((term, said) for term, said in items if said)))
    return blocks


def proof(run: RunRecords) -> Section:
    """Hashes, versions, seeds and the command."""
    results = [cell.result for cell in run.cells]
    proofs = [result["proof"] for result in results if isinstance(result.get("proof"), Mapping)]
    seeds = sorted({cell.seed for cell in run.cells})
    versions: dict[str, set[str]] = {}
    for one in proofs:
        for name, version in one.get("versions", {}).items():
            versions.setdefault(name, set()).add(str(version) or "not installed")
    items = [
        ("Again", again(run)),
        ("Digest of the split", run.split_digest),
        ("Split the trainings were given", _all(one.get("split") for one in proofs)),
        ("Features digest", _all(one.get("features") for one in proofs)),
        ("Training seeds", ", ".join(map(str, seeds))),
        ("Trainings finished", str(len(run.cells))),
        ("Devices", _all(one.get("device") for one in proofs)),
        *((f"Version of {name}", ", ".join(sorted(found))) for name, found in versions.items()),
    ]
    there = [(term, said) for term, said in items if said]
    code = ("Again", "Digest of the split", "Split the trainings were given", "Features digest")
    blocks: list[Block] = [
        Text(
            "Everything above is computed from the predictions in the run's folder. The digest of the split is "
            "computed here, from splits.csv, and has to be the one that the trainings were given. The data digest of "
            "a fold (in the table of the split) covers the decoded samples and the labels that it uses."
        ),
        Facts(tuple(there), code),
    ]
    given = {one["split"] for one in proofs if one.get("split")}
    # a call for the first folds only gave its trainings the beginning of the same split
    beginnings = {digest_of(row for row in run.splits if row.fold <= last) for last in run.folds}
    if given - beginnings:
        blocks.append(
            Text(
                "The digests of the split differ: the split file is not the one that was trained with.",
                warning=True,
            )
        )
    blocks.append(trained(run))
    return Section("proof", "Proof", tuple(blocks))


def again(run: RunRecords) -> str:
    """The command for the whole run: config.yaml is of the last call, and earlier ones may have asked for more."""
    settings = run.settings
    systems = [line.system for line in run.lines if not line.chosen and line.system in NAMES]
    seeds = max((seed.seed + 1 for line in run.lines for seed in line.seeds), default=0)
    words = ["unheard experiment --config config.yaml --out NEW"]
    words += [f"--systems {','.join(systems)}"] * (set(systems) != set(settings.systems))
    words += [f"--seeds {seeds}"] * (seeds > settings.seeds)
    words += [f"--folds {len(run.folds)}"] * (0 < settings.folds < len(run.folds))
    words += ["--tune"] * (any(line.chosen for line in run.lines) and not settings.tune)
    words += ["--invariance"] * (run.invariance is not None and not settings.invariance)
    return " ".join(words)


def _all(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value))


def trained(run: RunRecords) -> Table:
    """Every finished training, for whoever wants to check one."""
    columns = (
        Column("Training", "cell", False),
        Column("Epochs", "epochs"),
        Column("Updates", "updates"),
        Column("Train speakers", "train_speakers"),
        Column("Train utterances", "train_utterances"),
        Column("Data", "data", False),
    )
    rows = []
    for cell in sorted(run.cells, key=lambda c: (c.seed, c.fold, c.name)):
        proof = cell.result.get("proof", {})
        numbers: Sequence[Any] = (
            cell.result.get("epochs"),
            cell.result.get("updates"),
            len(proof.get("train_speakers", ())) or None,
            proof.get("train_utterances"),
        )
        shown = tuple(plain("–" if n is None else f"{n:,}", "" if n is None else n) for n in numbers)
        rows.append((plain(cell.name), *shown, plain(proof.get("data") or "–")))
    return Table("trainings", "Every finished training", columns, tuple(rows))
