"""Selection of settings by each fold's validation speakers, on seed 0; the chosen settings are kept for all seeds.

Each direction of a fold takes the settings with the best accuracy on its validation speakers; test results are never
read. Every system has the same budget: `grid` tries four values of λ or ε, `optuna` a number of trials of any settings.
The study of a direction uses only its own validation speakers, since those of others may be its test speakers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unheard.errors import ConfigError, did_you_mean, needs
from unheard.experiments.baselines import CLASSICAL_SYSTEMS
from unheard.experiments.cell_files import result_in
from unheard.experiments.config import SPACE, Experiment, keys
from unheard.files import csv_text, write_text

if TYPE_CHECKING:
    from unheard.experiments.plan import Cell


@dataclass(frozen=True)
class TunedOption:
    """The option of a system that is tuned: its name, symbol, fixed value, and the values to try."""

    name: str
    symbol: str
    fixed: float
    grid: tuple[float, ...]


TUNED_OPTIONS = {
    "dat": TunedOption("lam", "λ", 0.1, (0.03, 0.1, 0.3, 1.0)),
    "cgt": TunedOption("epsilon", "ε", 0.3, (0.03, 0.1, 0.3, 1.0)),
}
"""System -> its tuned option; ε is in input standard deviations (RMS)."""


@dataclass(frozen=True)
class Candidate:
    """A tried value with its results on the validation speakers of one direction of a fold, seed 0; `chosen` if best.

    `value` is a number of the grid, or a trial such as `training.lr=0.003,options.dat.lam=0.3`.
    """

    system: str
    fold: int
    direction: str
    value: float | str
    val_wa: float
    val_uar: float
    evaluation: str = ""
    chosen: bool = False

    @property
    def key(self) -> tuple[str, int, str, str]:
        """The system, fold, direction and evaluation for which one candidate is chosen."""
        return self.system, self.fold, self.direction, self.evaluation

    @property
    def searched(self) -> bool:
        """Whether the value is a trial of a search, not a value of the grid."""
        return isinstance(self.value, str)


def choose(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates on the grid, by system, fold, direction and value, with the best ones chosen.

    Nothing is chosen for a direction without results for all values of the grid, since its budget would be smaller.
    """
    groups: dict[tuple[str, int, str, str], dict[Any, Candidate]] = {}
    for candidate in candidates:
        if candidate.value in TUNED_OPTIONS[candidate.system].grid:
            groups.setdefault(candidate.key, {})[candidate.value] = candidate
    rows = []
    for (system, *_), tried in groups.items():
        complete = set(tried) == set(TUNED_OPTIONS[system].grid)
        best = max(tried, key=lambda value: (tried[value].val_wa, -value)) if complete else None
        rows += [replace(candidate, chosen=value == best) for value, candidate in sorted(tried.items())]
    order = list(TUNED_OPTIONS)
    # a stable sort keeps directions in the split's order
    return tuple(sorted(rows, key=lambda c: (order.index(c.system), c.evaluation, c.fold)))


# Trainings of a grid: every value on seed 0, then the chosen values on the other seeds.


def check_tuning(settings: Experiment) -> None:
    """Raise `ConfigError` for tuning that is impossible with any corpus, and `MissingExtra` without Optuna."""
    if settings.tune == "optuna":
        _check_search(settings)
    if settings.tune != "grid":
        return
    if not set(settings.systems) & set(TUNED_OPTIONS):
        what = f"there is nothing to choose for {', '.join(settings.systems)}"
        raise ConfigError(what, mend=f"Add {' or '.join(TUNED_OPTIONS)} to --systems, or leave out --tune.")
    mode = settings.options.get("cgt", {}).get("eps_mode", "rms")
    if "cgt" in settings.systems and mode != "rms":
        what = f"ε is chosen among RMS values, not with eps_mode = {mode}"
        raise ConfigError(what, mend="Leave out --option cgt.eps_mode.")


def candidate_cells(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells on seed 0 of every fold and value of the grid that are not among `cells`."""
    existing = {cell.name for cell in cells}
    tuned = [cell for cell in cells if cell.seed == 0 and cell.system in TUNED_OPTIONS]
    cells = [_with_value(cell, value) for cell in tuned for value in TUNED_OPTIONS[cell.system].grid]
    return [cell for cell in cells if cell.name not in existing]


def chosen_cells(cells: Sequence[Cell], candidates: Sequence[Candidate], settings: Experiment) -> list[Cell]:
    """Return the cells on seeds after 0 with the values chosen for their fold that are not among `cells`."""
    existing = {cell.name for cell in cells}
    chosen = [
        _trial_cell(cell, settings, c.value) if isinstance(c.value, str) else _with_value(cell, c.value)
        for cell in cells
        for c in candidates
        if cell.seed > 0 and c.chosen and (c.system, c.fold) == (cell.system, cell.fold.index)
    ]
    return list({cell.name: cell for cell in chosen if cell.name not in existing}.values())


def count_undecided(cells: Iterable[Cell], candidates: Iterable[Candidate], searched: bool) -> int:
    """Count the directions of tuned `cells` for which nothing can be chosen because trainings failed."""
    tuned = [cell for cell in cells if (not cell.classical if searched else cell.system in TUNED_OPTIONS)]
    folds = {(cell.system, cell.fold.index) for cell in tuned}
    tried = [c for c in candidates if (c.system, c.fold) in folds]
    undecided = {c.key for c in tried} - {c.key for c in tried if c.chosen}
    return len(undecided) + len(folds - {(c.system, c.fold) for c in tried})


def _with_value(cell: Cell, value: float) -> Cell:
    path = f"options.{cell.system}.{TUNED_OPTIONS[cell.system].name}"
    return replace(cell, settings=_replace_value(cell.settings, path, value))


def _replace_value(tree: Any, path: str, value: Any) -> Any:
    """Return a copy of the settings `tree` with `value` at the dotted `path`."""
    name, _, rest = path.partition(".")
    current = tree.get(name, {}) if isinstance(tree, Mapping) else getattr(tree, name)
    if rest:
        value = _replace_value(current, rest, value)
    elif isinstance(current, float) and isinstance(value, int):
        value = float(value)  # 1 and 1.0 identify the same training
    return {**tree, name: value} if isinstance(tree, Mapping) else replace(tree, **{name: value})


# A search with Optuna: every trial is an ordinary training in a separate folder.

TRIALS = "trials.csv"
STARTUP = 10  # random trials, trained together, before a study uses results; Optuna's default

UNSEARCHED = ("training.epochs", "training.updates", "training.report_epochs", "training.copies", "training.batchnorm")
"""Settings that cannot be searched: the length of a training, its feature stores and its evaluations."""


def apply_trial(settings: Experiment, trial: str) -> Experiment:
    """Return the settings with the values of a trial."""
    for key, _, text in (pair.partition("=") for pair in trial.split(",") if pair):
        settings = _replace_value(settings, key, _parsed(text))
    return settings


def search(
    settings: Experiment, cells: Iterable[Cell], train: Callable[[Sequence[Cell]], object]
) -> tuple[Candidate, ...]:
    """Run a study for each system, fold, direction and evaluation; return all trials with the best ones chosen.

    `train` trains cells without a result. The sampler is seeded by the fold, so that a repeated search has the same
    trials and trains only missing cells. A failed trial counts as tried and is never chosen.
    """
    optuna = _optuna()
    spaces = {system: _search_space(settings, system) for system in settings.systems if system not in CLASSICAL_SYSTEMS}
    studies = {}
    for cell in (cell for cell in cells if cell.seed == 0 and not cell.classical):
        for evaluation in cell.settings.training.evaluations:
            for direction in cell.fold.directions:
                sampler = optuna.samplers.TPESampler(seed=cell.fold.index, n_startup_trials=STARTUP)
                key = cell.system, cell.fold.index, direction.name, evaluation
                studies[key] = cell, optuna.create_study(direction="maximize", sampler=sampler)
    trials: dict[tuple[str, int, str, str], list[Candidate]] = {key: [] for key in studies}
    first = min(STARTUP, settings.trials)
    for n_trials in [first, *[1] * (settings.trials - first)]:
        batch = []
        for key, (cell, study) in studies.items():
            for _ in range(n_trials):
                trial = study.ask(spaces[cell.system])
                text = ",".join(f"{name}={_text(value)}" for name, value in trial.params.items())
                batch.append((key, study, trial, _trial_cell(cell, settings, text)))
        train(list({cell.name: cell for *_, cell in batch}.values()))
        for key, study, trial, cell in batch:
            scores = _validation_figures(cell, *key[2:])
            study.tell(trial, scores and scores[0], state=None if scores else optuna.trial.TrialState.FAIL)
            if scores:
                trials[key].append(Candidate(*key[:3], cell.trial, *scores, key[3]))
    best = {id(max(tried, key=lambda trial: trial.val_wa)) for tried in trials.values() if tried}  # first on a tie
    return tuple(replace(trial, chosen=id(trial) in best) for tried in trials.values() for trial in tried)


def write_trials(out: Path, trials: Sequence[Candidate]) -> None:
    """Write the trials of a search; trials of other systems and folds from earlier calls are kept."""
    searched = {trial.key for trial in trials}
    all_trials = [*(trial for trial in read_trials(out) if trial.key not in searched), *trials]
    write_text(out / TRIALS, csv_text([[field.name for field in fields(Candidate)], *map(astuple, all_trials)]))


def read_trials(out: Path) -> tuple[Candidate, ...]:
    """Read the trials of a search; () without a search."""
    if not (out / TRIALS).exists():
        return ()
    with (out / TRIALS).open(newline="", encoding="utf-8") as file:
        return tuple(
            Candidate(
                row["system"], int(row["fold"]), row["direction"], row["value"], float(row["val_wa"]),
                float(row["val_uar"]), row["evaluation"], row["chosen"] == "True",
            )
            for row in csv.DictReader(file)
        )  # fmt: skip


def _trial_cell(cell: Cell, settings: Experiment, trial: str) -> Cell:
    """Return the cell with the values of a trial; `settings` are the experiment's, without the limit on epochs."""
    tried = apply_trial(settings, trial)
    return replace(cell, settings=replace(tried, training=tried.training.limited(len(cell.fold.train))), trial=trial)


def _validation_figures(cell: Cell, direction: str, evaluation: str) -> tuple[float, float] | None:
    """Return WA and UAR on the validation speakers, or None without a result."""
    if cell.result() is None:
        return None
    results = map(result_in, (cell.result_folder(), cell.result_folder() / "reestimated"))
    figures = next(result["directions"][direction] for result in results if result.get("evaluation") == evaluation)
    return figures["val_wa"], figures["val_uar"]


def _optuna() -> Any:
    with needs("optuna", "tune"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _check_search(settings: Experiment) -> None:
    """Check settings with every key of the space at its ends."""
    from unheard.experiments.plan import check_settings

    _optuna()
    if set(settings.systems) <= set(CLASSICAL_SYSTEMS):
        raise ConfigError(f"there is nothing to search for {', '.join(settings.systems)}", mend="Leave out --tune.")
    for system in (system for system in settings.systems if system not in CLASSICAL_SYSTEMS):
        space = _search_space(settings, system)
        if not space:
            what = f"the space has no key of {system}, so that its budget would be smaller than the others'"
            raise ConfigError(what, mend="Add a key of training or network to --space, or leave out the system.")
        for key, values in space.items():
            for end in values.choices if hasattr(values, "choices") else (values.low, values.high):
                check_settings(apply_trial(settings, f"{key}={_text(end)}"))


def _search_space(settings: Experiment, system: str) -> dict[str, Any]:
    """Return key -> Optuna distribution for a system: all keys except options of other systems."""
    from unheard.training.strategies import STRATEGIES, strategy_of

    tree = [entry for entry in keys() if entry[0].startswith(("network.", "training.")) and entry[0] not in UNSEARCHED]
    for name in dict.fromkeys([*STRATEGIES, system]):
        options = strategy_of(name)[2]
        tree += keys(options, f"options.{name}.") if options else ()
    hints = {key: hint for key, _, hint in tree if not is_dataclass(hint)}
    space = {key.replace("-", "_"): ends for key, ends in (settings.space or SPACE).items()}
    if unknown := next((key for key in space if key not in hints), ""):
        raise ConfigError(f"'{unknown}' is not a setting that can be searched", mend=did_you_mean(unknown, hints))
    usable = [key for key in space if not key.startswith("options.") or key.startswith(f"options.{system}.")]
    return {key: _distribution(key, space[key], hints[key]) for key in usable}


def _distribution(key: str, text: str, hint: Any) -> Any:
    from optuna import distributions

    low, _, rest = text.partition(":")
    high, _, log = rest.partition(":")
    try:
        if "|" in text:
            return distributions.CategoricalDistribution([_parsed(value) for value in text.split("|")])
        if log not in ("", "log"):
            raise ValueError(f"'{log}' should be 'log'")
        if hint in (int, int | None):
            return distributions.IntDistribution(int(low), int(high), log=bool(log))
        return distributions.FloatDistribution(float(low), float(high), log=bool(log))
    except ValueError as error:
        mend = "Write KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A|B|C."
        raise ConfigError(f"'{key}={text}' cannot be searched ({error})", mend=mend) from None


def _parsed(text: str) -> Any:
    """Return the number or Boolean in `text`, else `text`."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    """Return the text of a value, the inverse of `_parsed`; numbers have four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
