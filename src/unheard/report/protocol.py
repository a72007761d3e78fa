"""Sections on what was done: protocol, proof, learning curves, under-training, settings chosen by validation."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unheard.corpora import corpus_names, get_corpus
from unheard.errors import counted
from unheard.experiments.baselines import NAMES
from unheard.experiments.records import CellRecord, RunRecords
from unheard.experiments.selection import KNOBS, Choice
from unheard.experiments.summary import TUNED, Line, hardly_trained
from unheard.report.content import NOTHING, Block, Facts, Figure, Section, Table, Text, listed, percent
from unheard.report.plots import Training, choices, learning
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
    name = run.settings.protocol
    if len({row.direction for row in run.splits if row.part == "test"}) > 1:
        return f"{name}, both directions"
    return f"{name}, {run.settings.test} tested" if name == "paired" else name


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


# The trainings, and the settings that were chosen.

Evaluated = list[tuple[CellRecord, dict[str, Mapping[str, Any]]]]
"""The trainings of a line, each with the results of the directions that the line takes from it."""


def trainings(run: RunRecords) -> Section:
    """Learning curves of every line, and which trainings ended too early."""
    lines = {line.name: _evaluated(run, line) for line in run.lines}
    curves: dict[str, list[Training]] = {}
    for name, cells in lines.items():
        for cell, directions in cells:
            history, several = cell.history(), len(cell.result.get("directions", {})) > 1
            for direction, one in directions.items() if history else ():
                if epoch := one.get("best_epoch"):
                    training = Training(history, f"_{direction}" if several else "", int(epoch))
                    curves.setdefault(name, []).append(training)
    blocks: list[Block] = []
    if curves:
        caption = (
            "Learning curves: every training thin, their mean thick. Training figures are those of the epoch itself"
            + (", with dropout" if run.settings.network.dropout else "")
            + "; the highest 2 % of losses are cut off."
        )
        alt = f"Accuracy and loss by epoch of {listed(list(curves))}"
        blocks.append(Figure("curves", caption, alt, learning(curves)))
    else:
        blocks.append(Text("Learning curves need the trainings' history.jsonl, which this run does not have."))
    chose = "epoch chosen on validation" if run.settings.training.select == "best" else "last epoch evaluated"
    heads = ("System", "Trainings", "Epochs", "Updates", "Evaluated epoch, median", "Evaluated epochs", "Under-trained")
    rows = tuple(_lengths(line, lines[line.name]) for line in run.lines)
    blocks.append(Table("epochs", f"Length of training; {chose}", heads, rows))
    ends = zip(rows, lines.values(), strict=True)
    if late := [f"{row[-1]} of {len(cells)} of {row[0]}" for row, cells in ends if row[-1] != "0"]:
        text = f"Under-trained: {listed(late)} had the best epoch among the last five; more epochs would serve them."
        blocks.append(Text(text, warning=True))
    if few := hardly_trained(run.lines):
        blocks.append(Text(few, warning=True))
    return Section("training", "Training", tuple(blocks))


def _evaluated(run: RunRecords, line: Line) -> Evaluated:
    found = []
    for cell in (cell for seed in line.seeds for cell in seed.cells):
        own = [c for c in run.choices if c.chosen and type(c.value) is type(cell.value) and line.chosen]
        place = line.system, cell.fold, cell.evaluation
        chosen = {c.direction: c.value for c in own if (c.system, c.fold, c.evaluation) == place}
        directions = cell.result.get("directions", {}).items()
        found.append((cell, {name: one for name, one in directions if chosen.get(name, cell.value) == cell.value}))
    return found


def _lengths(line: Line, cells: Evaluated) -> tuple[str, ...]:
    results = list({cell.name: cell.result for cell, _ in cells}.values())
    found = [one for _, directions in cells for one in directions.values()]
    best = sorted(int(one["best_epoch"]) for one in found if one.get("best_epoch"))
    late = sum(any(one.get("under_trained") for one in directions.values()) for _, directions in cells)
    epochs = [int(result["epochs"]) for result in results if not result.get("fitted")]
    middle = f"{statistics.median(best):g}" if best else NOTHING
    return line.name, str(len(results)), _span(epochs), _span(line.updates), middle, _span(best), str(late)


def _span(values: Sequence[int]) -> str:
    return "–".join(dict.fromkeys(f"{end:,}" for end in (min(values), max(values)))) if values else NOTHING


def chosen(run: RunRecords) -> Section:
    """The choice of λ, ε and other settings by each fold's own validation speakers."""
    grid = [choice for choice in run.choices if not choice.searched]
    tried = {system: [choice for choice in grid if choice.system == system] for system in KNOBS}
    tried = {system: own for system, own in tried.items() if len({choice.value for choice in own}) > 1}
    trials = [choice for choice in run.choices if choice.searched]
    if trials:
        return Section("choice", "Choice of settings", (*(_of_the_grid(tried) if tried else ()), *_searched(trials)))
    if tried:
        return Section("choice", "Choice of λ and ε", _of_the_grid(tried))
    words = "λ and ε have their fixed values; no other values were tried (--tune grid)."
    return Section("choice", "Choice of λ and ε", (Text(words),))


def _searched(trials: Sequence[Choice]) -> tuple[Block, ...]:
    """The chosen trial of each study of a search."""
    rows = []
    for choice in (one for one in trials if one.chosen):
        own = [one.val_wa for one in trials if one.place == choice.place]
        rows.append(
            (NAMES.get(choice.system, choice.system), str(choice.fold), choice.direction, choice.evaluation,
             str(choice.value).replace(",", ", "), str(len(own)), percent(min(own)), percent(choice.val_wa))
        )  # fmt: skip
    heads = ("System", "Fold", "Direction", "Evaluation", "Chosen", "Trials", "Lowest val WA, %", "Val WA, %")
    text = (
        "The tuned systems have the settings that did best, among the trials of Optuna on seed 0, on the validation "
        "speakers of that direction of the fold; the chosen ones were kept for all seeds. Test speakers had no part in "
        "it. The chosen validation accuracy is the highest of many, and thus optimistic. All trials are in trials.csv."
    )
    return Text(text), Table("trials", "Settings chosen by search", heads, tuple(rows))


def _of_the_grid(tried: Mapping[str, Sequence[Choice]]) -> tuple[Block, ...]:
    """Every value of λ and ε that was tried, by system."""
    panels: dict[str, dict[str, list[tuple[float, float, bool]]]] = {}
    rows, picks = [], []
    for system, own in tried.items():
        symbol = KNOBS[system].symbol
        panel = panels.setdefault(f"{NAMES[system]}: {symbol}", {})
        for choice in own:
            value = float(choice.value)
            point = (value, choice.val_wa, choice.chosen)
            panel.setdefault(f"fold {choice.fold}, {choice.direction}", []).append(point)
            rows.append(
                (NAMES[system], symbol, str(choice.fold), choice.direction, f"{value:g}", percent(choice.val_wa),
                 percent(choice.val_uar), "chosen" if choice.chosen else "")
            )  # fmt: skip
        values = [float(choice.value) for choice in own if choice.chosen]
        tally = [f"{value:g} ({counted(values.count(value), 'time')})" for value in sorted(set(values))]
        picks.append(f"{symbol}: {listed(tally)}")
    text = (
        "On seed 0 each direction of a fold chose the value with the best accuracy on its own validation speakers (the "
        "smaller one on a tie), and kept it for all seeds. Test speakers had no part in it. "
        f"Chosen: {'; '.join(picks)}. Few speakers are a noisy judge, so the rows with fixed values stay beside."
    )
    caption = "Validation accuracy over the candidates, seed 0: each direction of a fold thin, their mean thick."
    heads = ("System", "Knob", "Fold", "Direction", "Value", "Val WA, %", "Val UAR, %", "")
    figure = Figure("choice", f"{caption} Dots: chosen.", f"Chosen: {'; '.join(picks)}", choices(panels))
    table = Table("choice", "Every candidate, by fold and direction", heads, tuple(rows))
    return Text(text), figure, table
