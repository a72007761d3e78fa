"""Report sections on the method: protocol, proof, learning curves, under-training, settings chosen by validation."""

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
from unheard.experiments.selection import TUNED_OPTIONS, Candidate
from unheard.experiments.summary import TUNED, Line, hardly_trained
from unheard.report.content import NOTHING, Block, DefinitionList, Figure, Section, Table, Text, listed, percent
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
        f"{run.epochs}" + ", transductive (normalised with the test speakers' recordings)" * transductive
    )


def corpora_of(run: RunRecords) -> list[str]:
    """Return the corpora of a run that have a reader, by name."""
    names = {*run.settings.corpus.split(","), *(row.get("corpus", "") for row in run.utterances.values())}
    return sorted({name.strip().lower().replace("_", "-") for name in names} & set(corpus_names()))


def corpus_name(run: RunRecords) -> str:
    """Return the title of the corpus, or the name in the rows of a manifest, or that of its file."""
    corpora = corpora_of(run)
    others = sorted({row.get("corpus", "") for row in run.utterances.values()} - {"", *corpora})
    return listed([get_corpus(name).title for name in corpora] + others) or run.settings.manifest.rpartition("/")[2]


def protocol_name(run: RunRecords) -> str:
    """Return the protocol of the split."""
    name = run.settings.protocol
    if len({row.direction for row in run.splits if row.part == "test"}) > 1:
        return f"{name}, both directions"
    return f"{name}, {run.settings.test} tested" if name == "paired" else name


def protocol(run: RunRecords) -> Section:
    """Return the section on corpus, split and recipe."""
    settings = run.settings
    rows = list(run.utterances.values())
    counts = Counter(row.get("emotion", "") for row in rows)
    genders = {row.get("speaker", ""): row.get("gender", "") for row in rows}
    by_gender = sorted(Counter(gender for gender in genders.values() if gender).items())
    people = str(len(genders)) + (f" ({', '.join(f'{n} {gender}' for gender, n in by_gender)})" if by_gender else "")
    texts = {row["text"] for row in rows if row.get("text")}
    training = dataclasses.asdict(settings.training)
    description = _definitions(
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
    return Section("protocol", "Protocol", (description, folds(run), *licence(run), *absent))


def _values(values: Mapping[str, Any], everything: bool = False) -> str:
    """Format settings; values that are off or empty are left out unless `everything` is requested."""
    shown = {name: value for name, value in values.items() if value or (everything and value is not None)}
    texts = {name: "yes" if value is True else "no" if value is False else value for name, value in shown.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def folds(run: RunRecords) -> Table:
    """Return the table of training, validation and test speakers of every fold and direction."""
    parts: dict[tuple[int, str, str], Counter[str]] = {}
    for row in run.splits:
        parts.setdefault((row.fold, row.direction, row.part), Counter())[row.speaker] += 1
    digests: dict[int, dict[str, None]] = {}
    for cell in run.cells:
        digests.setdefault(cell.fold, {})[str(cell.result.get("proof", {}).get("data", "") or NOTHING)] = None
    rows = tuple(
        (f"fold {fold}", direction if direction != "test" else NOTHING,
         _speakers(parts.get((fold, "", "train"), Counter()), 0),
         _speakers(parts.get((fold, direction, "dev"), Counter())), _speakers(counts),
         ", ".join(digests.get(fold, (NOTHING,))))
        for (fold, direction, part), counts in parts.items()
        if part == "test"
    )  # fmt: skip
    heads = ("Fold", "Direction", "Trained on", "Validated on", "Tested on", "Data digest")
    return Table("folds", "The split: speakers, with utterances in brackets", heads, rows)


def _speakers(counts: Counter[str], few: int = 8) -> str:
    """Format the names of speakers, or their number if there are more than `few`, and their number of utterances."""
    names = sorted(counts, key=natural)
    text = ", ".join(names) if len(names) <= few else counted(len(names), "speaker")
    return f"{text} ({sum(counts.values()):,})"


def licence(run: RunRecords) -> list[Block]:
    """Return licence, citation and pitfalls of the corpora that have a reader."""
    corpora = corpora_of(run)
    if not corpora:
        return [Text("Licence and citation of the corpus are unknown: the manifest names no known corpus.")]
    return [
        _definitions(("Licence", corpus.licence), ("Please cite", corpus.citation), ("Home", corpus.homepage),
               *(("Beware", trap) for trap in corpus.traps))
        for corpus in map(get_corpus, corpora)
    ]  # fmt: skip


def _definitions(*items: tuple[str, str], code: tuple[str, ...] = ()) -> DefinitionList:
    """Return the definitions that are not empty."""
    return DefinitionList(tuple(item for item in items if item[1]), code)


def proof(run: RunRecords) -> Section:
    """Return the section with hashes, versions, seeds and the command."""
    proofs = [cell.result["proof"] for cell in run.cells if isinstance(cell.result.get("proof"), Mapping)]
    versions: dict[str, set[str]] = {}
    for values in proofs:
        for name, version in values.get("versions", {}).items():
            versions.setdefault(name, set()).add(str(version) or "not installed")
    definitions = _definitions(
        ("Command", run_command(run)),
        ("Digest of the split", run.split_digest),
        ("Features digest", _all(values.get("features") for values in proofs)),
        ("Training seeds", ", ".join(map(str, sorted({cell.seed for cell in run.cells})))),
        ("Trainings finished", str(len(run.cells))),
        ("Devices", _all(values.get("device") for values in proofs)),
        *((f"Version of {name}", ", ".join(sorted(values))) for name, values in versions.items()),
        code=("Command", "Digest of the split", "Features digest"),
    )
    text = (
        "Everything above is computed from the predictions in the run's folder. The data digest of a fold covers its "
        "decoded samples and labels."
    )
    return Section("proof", "Proof", (Text(text), definitions))


def run_command(run: RunRecords) -> str:
    """Return the command for the whole run; config.yaml has the last call, but earlier ones may have covered more."""
    settings = run.settings
    systems = list(dict.fromkeys(line.system for line in run.lines if not line.chosen and line.system in NAMES))
    seeds = max((seed.seed + 1 for line in run.lines for seed in line.seeds), default=0)
    command = ["unheard experiment --config config.yaml --out NEW"]
    command += [f"--systems {','.join(systems)}"] * (set(systems) != set(settings.systems))
    command += [f"--seeds {seeds}"] * (seeds > settings.seeds)
    command += [f"--folds {len(run.folds)}"] * (0 < settings.folds < len(run.folds))
    tuners = [("optuna" if line.choice == TUNED else "grid") for line in run.lines if line.chosen]
    command += [f"--tune {tuner}" for tuner in tuners[:1] if not settings.tune]
    command += ["--invariance"] * (run.invariance is not None and not settings.invariance)
    return " ".join(command)


def _all(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value))


# Trainings and chosen settings.

Evaluated = list[tuple[CellRecord, dict[str, Mapping[str, Any]]]]
"""The trainings of a line, each with those of its directions' results that the line contains."""


def trainings(run: RunRecords) -> Section:
    """Return the section with the learning curves of every line, and the trainings that ended too early."""
    lines = {line.name: _evaluated(run, line) for line in run.lines}
    curves: dict[str, list[Training]] = {}
    for name, cells in lines.items():
        for cell, directions in cells:
            history, both_directions = cell.history(), len(cell.result.get("directions", {})) > 1
            for direction, result in directions.items() if history else ():
                if epoch := result.get("best_epoch"):
                    training = Training(history, f"_{direction}" if both_directions else "", int(epoch))
                    curves.setdefault(name, []).append(training)
    blocks: list[Block] = []
    if curves:
        caption = (
            "Learning curves: thin lines are trainings, thick lines their mean. Training figures are taken in the epoch"
            + (", with dropout" if run.settings.network.dropout else "")
            + "; the highest 2 % of losses are cut off."
        )
        alt = f"Accuracy and loss by epoch of {listed(list(curves))}"
        blocks.append(Figure("curves", caption, alt, learning(curves)))
    else:
        blocks.append(Text("Learning curves need the trainings' history.jsonl, which this run does not have."))
    selection = "epoch chosen on validation" if run.settings.training.select == "best" else "last epoch evaluated"
    heads = ("System", "Trainings", "Epochs", "Updates", "Evaluated epoch, median", "Evaluated epochs", "Under-trained")
    rows = tuple(_lengths(line, lines[line.name]) for line in run.lines)
    blocks.append(Table("epochs", f"Length of training; {selection}", heads, rows))
    counts = zip(rows, lines.values(), strict=True)
    if late := [f"{row[-1]} of {len(cells)} of {row[0]}" for row, cells in counts if row[-1] != "0"]:
        text = f"Under-trained: {listed(late)} had the best epoch among the last five; train for more epochs."
        blocks.append(Text(text, warning=True))
    if few := hardly_trained(run.lines):
        blocks.append(Text(few, warning=True))
    return Section("training", "Training", tuple(blocks))


def _evaluated(run: RunRecords, line: Line) -> Evaluated:
    evaluated = []
    for cell in (cell for seed in line.seeds for cell in seed.cells):
        candidates = [c for c in run.candidates if c.chosen and type(c.value) is type(cell.value) and line.chosen]
        key = line.system, cell.fold, cell.evaluation
        chosen = {c.direction: c.value for c in candidates if (c.system, c.fold, c.evaluation) == key}
        directions = cell.result.get("directions", {}).items()
        evaluated.append((cell, {name: r for name, r in directions if chosen.get(name, cell.value) == cell.value}))
    return evaluated


def _lengths(line: Line, cells: Evaluated) -> tuple[str, ...]:
    results = list({cell.name: cell.result for cell, _ in cells}.values())
    figures = [result for _, directions in cells for result in directions.values()]
    best = sorted(int(result["best_epoch"]) for result in figures if result.get("best_epoch"))
    late = sum(any(result.get("under_trained") for result in directions.values()) for _, directions in cells)
    epochs = [int(result["epochs"]) for result in results if not result.get("fitted")]
    median = f"{statistics.median(best):g}" if best else NOTHING
    return line.name, str(len(results)), _span(epochs), _span(line.updates), median, _span(best), str(late)


def _span(values: Sequence[int]) -> str:
    return "–".join(dict.fromkeys(f"{end:,}" for end in (min(values), max(values)))) if values else NOTHING


def chosen(run: RunRecords) -> Section:
    """Return the section on the choice of λ, ε and other settings by each fold's validation speakers."""
    grid = [candidate for candidate in run.candidates if not candidate.searched]
    tried = {system: [candidate for candidate in grid if candidate.system == system] for system in TUNED_OPTIONS}
    tried = {system: of_system for system, of_system in tried.items() if len({c.value for c in of_system}) > 1}
    trials = [candidate for candidate in run.candidates if candidate.searched]
    blocks: tuple[Block, ...] = _grid_blocks(tried) if tried else ()
    if trials:
        return Section("choice", "Choice of settings", (*blocks, *_search_blocks(trials)))
    text = "λ and ε have their fixed values; no other values were tried (--tune grid)."
    return Section("choice", "Choice of λ and ε", blocks or (Text(text),))


def _search_blocks(trials: Sequence[Candidate]) -> tuple[Block, ...]:
    """Return a table of the chosen trial of each study of a search, with an explanation."""
    rows = []
    for chosen in (trial for trial in trials if trial.chosen):
        study = [trial.val_wa for trial in trials if trial.key == chosen.key]
        rows.append(
            (NAMES.get(chosen.system, chosen.system), str(chosen.fold), chosen.direction, chosen.evaluation,
             str(chosen.value).replace(",", ", "), str(len(study)), percent(min(study)), percent(chosen.val_wa))
        )  # fmt: skip
    heads = ("System", "Fold", "Direction", "Evaluation", "Chosen", "Trials", "Lowest val WA, %", "Val WA, %")
    text = (
        "The tuned systems have the settings that were best on the validation speakers of that direction of the fold, "
        "among Optuna's trials on seed 0; they were kept for all seeds. Test speakers had no part in the choice. The "
        "chosen validation accuracy is the highest of many, and thus optimistic. All trials are in trials.csv."
    )
    return Text(text), Table("trials", "Settings chosen by search", heads, tuple(rows))


def _grid_blocks(tried: Mapping[str, Sequence[Candidate]]) -> tuple[Block, ...]:
    """Return the values of λ and ε that were tried, by system, as a figure and a table with an explanation."""
    panels: dict[str, dict[str, list[tuple[float, float, bool]]]] = {}
    rows, summaries = [], []
    for system, candidates in tried.items():
        symbol = TUNED_OPTIONS[system].symbol
        panel = panels.setdefault(f"{NAMES[system]}: {symbol}", {})
        for c in candidates:
            value = float(c.value)
            panel.setdefault(f"fold {c.fold}, {c.direction}", []).append((value, c.val_wa, c.chosen))
            rows.append(
                (NAMES[system], symbol, str(c.fold), c.direction, f"{value:g}", percent(c.val_wa),
                 percent(c.val_uar), "chosen" if c.chosen else "")
            )  # fmt: skip
        values = [float(c.value) for c in candidates if c.chosen]
        counts = [f"{value:g} ({counted(values.count(value), 'time')})" for value in sorted(set(values))]
        summaries.append(f"{symbol}: {listed(counts)}")
    text = (
        "On seed 0 each direction of a fold chose the value with the best accuracy on its own validation speakers (the "
        "smaller one on a tie), and kept it for all seeds. Test speakers had no part in the choice. "
        f"Chosen: {'; '.join(summaries)}. A choice on few speakers is noisy, so the fixed values are reported as well."
    )
    caption = "Validation accuracy by candidate, seed 0: thin lines are directions of a fold, the thick one their mean."
    heads = ("System", "Option", "Fold", "Direction", "Value", "Val WA, %", "Val UAR, %", "")
    figure = Figure("choice", f"{caption} Dots: chosen.", f"Chosen: {'; '.join(summaries)}", choices(panels))
    table = Table("choice", "Every candidate, by fold and direction", heads, tuple(rows))
    return Text(text), figure, table
