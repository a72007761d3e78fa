"""Speaker leakage of a run's systems and of any trained model, and the extra run in which it can be measured."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.analysis.intervals import Spread
from unheard.analysis.speaker_leakage import FORMAT, Leakage, examine_embeddings
from unheard.corpora import read_manifest
from unheard.errors import ConfigError, FeatureError, Say, SplitError, TrainingError, UnheardError, counted, silent
from unheard.experiments.cell import versions
from unheard.experiments.evaluate import (
    rows_with_labels,
    same_name_remark,
    score_model,
    training_identities,
    was_trained_on,
)
from unheard.experiments.records import RunRecords
from unheard.experiments.summary import SeedRecord
from unheard.features import FeatureStore, Normaliser
from unheard.features.normalise import TRANSDUCTIVE, pool
from unheard.files import json_text, markdown_table, write_json
from unheard.manifest import Manifest, choose_channel
from unheard.model.saving import Model
from unheard.splits.protocols import default_protocol, known_gender, make_split
from unheard.splits.speakers import is_unknown
from unheard.splits.split import Assigned, Split, identity_of

if TYPE_CHECKING:
    from unheard.experiments.config import Experiment

CACHE = "invariance.json"
FOLDER = "invariance"
LEAST_UNSEEN = 4  # minimum number of unseen speakers, dev and test together, of one network
_LEAST = 2  # minimum number of training, validation and test speakers
_TRIES = 200


# The table.

INPUT = "input features"
"""Name of the row of the input features: mean and standard deviation over time, after normalisation."""
UNSEEN = "unseen speakers"
HEADS = {
    "linear": "Speaker probe, linear",
    "mlp": "Speaker probe, MLP",
    "eer": "EER",
    "worst_uar": "Worst speaker's UAR",
    "mean_uar": "Mean of speakers' UAR",
    "spread_uar": "Best − worst",
    "gender_gap": "Women − men",
}
"""Figure -> column heading."""


@dataclass(frozen=True)
class LineLeakage:
    """A row of the tables: a measurement for each of the `seeds`; the input features have one measurement, no seed."""

    name: str
    seeds: tuple[int, ...]
    measurements: tuple[Leakage, ...]

    def over_seeds(self, figure: str) -> Spread:
        """Return a figure of `HEADS` for each seed, without unknown values, such as with unknown genders."""
        values = (leakage.estimate(figure).value for leakage in self.measurements)
        return Spread(tuple(value for value in values if not math.isnan(value)))

    def shown(self, figure: str) -> str:
        """Format a figure in percent: mean ± standard deviation over seeds; with one seed, its interval if any."""
        spread, (_, low, high) = self.over_seeds(figure), self.measurements[0].estimate(figure)
        if spread.mean is None or len(self.measurements) > 1:
            return str(spread)
        return f"{100 * spread.mean:.1f}" + ("" if math.isnan(low) else f" [{100 * low:.1f}, {100 * high:.1f}]")


def markdown(lines: Mapping[str, LineLeakage], population: str = UNSEEN) -> str:
    """Return a Markdown table in percent and points, followed by its explanation."""
    table = markdown_table(["", *HEADS.values()], [[line.name, *map(line.shown, HEADS)] for line in lines.values()])
    return "\n".join([table, "", *explanation(next(iter(lines.values())).measurements[0], population)]) + "\n"


def explanation(leakage: Leakage, population: str = UNSEEN) -> Sequence[str]:
    """Return sentences on the recordings, the speakers (`population`), chance and the intervals."""
    sample = "" if leakage.examined == leakage.recordings else f" (probe and EER: a seeded draw of {leakage.examined})"
    same, different = leakage.pairs
    pair_texts = "with different texts" if leakage.pair_texts == "different" else "with any texts"
    texts = f" and different texts ({leakage.texts} texts)" if leakage.disjoint == "texts" else ""
    parts = f"the probe is trained and tested on different recordings{texts or '; their texts may be the same'}"
    return [
        f"{counted(leakage.recordings, 'recording')} of {leakage.speakers} {population}{sample}; {parts}.",
        f"Chance {100 * leakage.chance:.1f} %, always the most frequent speaker {100 * leakage.majority:.1f} %; an EER "
        f"of 50 % is chance ({same:,} pairs of one speaker and {different:,} of two, {pair_texts}).",
        "Percent and points; [95 % interval] from resampling recordings, ± standard deviation over seeds.",
    ]


# Leakage of a run.


@dataclass(frozen=True)
class UnseenRows:
    """The dev and test rows of one direction of one fold, unseen by its trained network."""

    run: RunRecords
    fold: int
    direction: str
    rows: tuple[Assigned, ...]

    def column(self, name: str) -> list[str]:
        """Return a column of the run's utterances for every row."""
        return [self.run.utterances[row.id].get(name, "") for row in self.rows]


def unseen_rows(run: RunRecords) -> UnseenRows | None:
    """Return the unseen speakers of RUN/invariance, else of the run's first fold; None if they are fewer than four.

    Only one fold and its first direction are used, because embedding spaces differ between networks. Speakers with a
    single recording are left out, since a probe cannot both train and test on it.
    """
    for source in filter(None, (run.invariance, run)):
        fold = source.folds[0]
        held_out = [row for row in source.splits if row.fold == fold and row.part != "train"]
        held_out = [row for row in held_out if row.direction == held_out[0].direction]
        counts = Counter(row.speaker for row in held_out)
        rows = tuple(row for row in held_out if counts[row.speaker] > 1)
        if len({row.speaker for row in rows}) >= LEAST_UNSEEN:
            return UnseenRows(source, fold, held_out[0].direction, rows)
    return None


def run_leakage(run: RunRecords, say: Say = silent) -> dict[str, LineLeakage]:
    """Return the speaker leakage of each line over its complete seeds, then of the input features; {} if unavailable.

    The lines are those of RUN/invariance if it exists. Figures are cached in RUN/invariance.json, also for runs without
    embeddings, and measured again only for trainings that have changed. Raises `MissingExtra` without scikit-learn.
    """
    unseen = unseen_rows(run)
    if unseen is None:
        return {}
    cache = _Cache(run.folder / CACHE, unseen)
    lines = {}
    for line in unseen.run.lines:
        by_seed = {seed.seed: leakage for seed in line.seeds if (leakage := _seed_leakage(unseen, seed, cache, say))}
        if by_seed:
            lines[line.name] = LineLeakage(line.name, tuple(by_seed), tuple(by_seed.values()))
    input_leakage = _input_leakage(unseen, cache) if lines else None
    if input_leakage is not None:
        lines[INPUT] = LineLeakage(INPUT, (), (input_leakage,))
    return lines


def _seed_leakage(unseen: UnseenRows, seed: SeedRecord, cache: _Cache, say: Say) -> Leakage | None:
    cell = next(cell for cell in seed.cells if cell.fold == unseen.fold)

    def examine() -> Leakage | None:
        stored = cell.embeddings()
        if stored is None:
            return None
        embeddings, ids, parts = stored
        index = {key: i for i, key in reversed(list(enumerate(zip(parts, ids, strict=True))))}  # first direction
        if any((row.part, row.id) not in index for row in unseen.rows):
            return None
        e = embeddings[[index[row.part, row.id] for row in unseen.rows]]
        if not np.isfinite(e).all():
            say(f"{cell.name} has embeddings that are not finite: its training diverged, and it is left out")
            return None
        say(f"Speaker probe on {cell.name}")
        emotions: dict[tuple[str, str], tuple[int, int]] = {}
        for part, p in (("dev", seed.dev), ("test", seed.test)):
            selected = (p.folds == unseen.fold) & (np.array(p.directions) == unseen.direction)
            for i in np.flatnonzero(selected):
                emotions[part, p.ids[i]] = int(p.truth[i]), int(p.predicted[i])
        truth, predicted = zip(*(emotions[row.part, row.id] for row in unseen.rows), strict=True)
        speakers = [row.speaker for row in unseen.rows]
        return examine_embeddings(e, speakers, unseen.column("text"), unseen.column("gender"), truth, predicted)

    return cache.get([cell.name, str(cell.result["epochs"]), cell.digest], examine)


def _input_leakage(unseen: UnseenRows, cache: _Cache) -> Leakage | None:
    """Measure the leakage of the pooled input features; None if the feature store is missing."""
    run = unseen.run

    def examine() -> Leakage | None:
        speakers = {row.id: row.speaker for row in run.splits if row.fold == unseen.fold}
        store = _open_store(run)
        if store is None or any(name not in store for name in speakers):
            return None
        train = [row.id for row in run.splits if row.fold == unseen.fold and row.part == "train"]
        normaliser = Normaliser(run.settings.normalise)
        normaliser = normaliser.fit(store, speakers if normaliser.transductive else train, speakers)
        x = np.stack([pool(normaliser.apply(store[row.id], row.speaker)) for row in unseen.rows])
        return examine_embeddings(x, [row.speaker for row in unseen.rows], unseen.column("text"))

    data = {str(cell.result.get("proof", {}).get("data", "")) for cell in run.cells if cell.fold == unseen.fold}
    key = [INPUT, run.split_digest, run.settings.normalise, run.settings.features.digest, *sorted(data)]
    return cache.get(key, examine)


def _open_store(run: RunRecords) -> FeatureStore | None:
    configured = [Path(run.settings.store)] if run.settings.store else []
    for folder in (*configured, run.folder / "features", run.folder.parent / "features"):
        with suppress(FeatureError):
            store = FeatureStore(folder)
            if store.settings == run.settings.features:
                return store
    return None


class _Cache:
    """Figures of the unseen speakers in a JSON file, by a hash of their origin."""

    def __init__(self, path: Path, unseen: UnseenRows) -> None:
        self.path, self.entries = path, dict[str, Any]()
        with suppress(OSError, ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            self.entries = content if isinstance(content, dict) else {}
        columns = zip(unseen.rows, unseen.column("text"), unseen.column("gender"), strict=True)
        self.rows = [(row.part, row.id, row.speaker, text, gender) for row, text, gender in columns]

    def get(self, key: Sequence[str], examine: Callable[[], Leakage | None]) -> Leakage | None:
        """Return the cached figures for `key`, or call `examine` and cache its result."""
        lines = ["\t".join(row) + "\n" for row in ((str(FORMAT), *key), *self.rows)]
        name = blake2b("".join(lines).encode(), digest_size=16).hexdigest()
        if name in self.entries:
            with suppress(KeyError, TypeError, ValueError):  # a damaged entry is measured again
                return Leakage.from_dict(self.entries[name]["figures"])
        examined = examine()
        if examined is not None:
            self.entries[name] = {"of": list(key[:2]), "figures": dataclasses.asdict(examined)}
            with suppress(UnheardError):  # without a cache, the next call is only slower
                write_json(self.path, self.entries)
        return examined


# Leakage of any trained model, on any labelled manifest.


@dataclass(frozen=True)
class ProbeResult:
    """Speaker leakage of a model's embeddings and of its input; `left_out` counts rows by reason.

    `population` describes the speakers, such as "unseen speakers".
    """

    embeddings: Leakage
    input_features: Leakage
    left_out: Mapping[str, int]
    about: Mapping[str, Any]
    population: str = UNSEEN
    transductive: bool = False

    def as_json(self) -> str:
        """Return all figures as JSON; an estimate is [value, low, high]."""
        plain = dataclasses.asdict(self)
        return json_text({**plain, "model": plain.pop("about"), "versions": versions()})

    def as_markdown(self) -> str:
        """Return a Markdown table with reference values, and the speakers with the lowest and highest UAR."""
        rows = {"embeddings": self.embeddings, INPUT: self.input_features}
        text = markdown({name: LineLeakage(name, (), (row,)) for name, row in rows.items()}, self.population)
        text += f"\nThe model is {TRANSDUCTIVE}.\n" * self.transductive
        groups = self.embeddings.groups
        if groups is None:
            return text
        worst, best = groups.worst, groups.best
        if groups.spread > 0:
            text += (
                f"Worst speaker: {worst.speaker} ({counted(worst.recordings, 'recording')}, "
                f"{counted(worst.emotions, 'emotion')}), UAR {100 * worst.uar.value:.1f} %; "
                f"best: {best.speaker}, {100 * best.uar.value:.1f} %.\n"
            )
        else:
            text += f"Every speaker's UAR is {100 * worst.uar.value:.1f} %.\n"
        return text + f"{counted(groups.gender_unknown, 'speaker')} without gender.\n" * (groups.gender_unknown > 0)


def probe_model(
    model: str | Path,
    manifest: str | Path | Manifest,
    *,
    mapping: Mapping[str, str] | None = None,
    channel: str = "mix",
    seen: bool = False,
    store: str | Path | None = None,
    device: str = "auto",
    say: Say = silent,
) -> ProbeResult:
    """Measure the speaker leakage of `model` (a file or a cell's folder) on the rows of `manifest`.

    Speakers that the model was trained on are left out and counted, unless `seen`, and so are speakers with a single
    recording. `channel` is mix, left, right or each; features are written to `store`, if given. Raises `UnheardError`
    if fewer than two speakers remain, or the model or the manifest cannot be used.
    """
    trained = Model.load(model)
    table = manifest if isinstance(manifest, Manifest) else read_manifest(manifest, mapping=mapping)
    labelled = rows_with_labels(trained, table, mapping, say)
    training = training_identities(trained)
    if not training:
        say("warning: the model does not record its training speakers")
    usable = labelled.where(lambda row: not is_unknown(row.speaker))
    if len(usable) < len(labelled):
        say(f"{counted(len(labelled) - len(usable), 'utterance')} of unknown speakers left out")
    rows = choose_channel(usable, channel)
    # channels may become separate speakers with other names, so the table's names are looked up first
    trained_rows = choose_channel(table.where(lambda row: was_trained_on(row, training)), channel)
    training_speakers = {row.full_name for row in rows if was_trained_on(row, training)}
    training_speakers |= {row.full_name for row in trained_rows}
    unseen = rows if seen else rows.where(lambda row: row.full_name not in training_speakers)
    if len(unseen) < len(rows):
        share = f"{len(rows) - len(unseen)} of {len(rows)}"
        remark = same_name_remark(training_speakers, training)
        say(f"{share} utterances left out: the model was trained on their speakers{remark}")
    which = "that the model was not trained on" if training and not seen else "in the manifest"
    _at_least_two(unseen, which, offer_seen=bool(training) and not seen)
    with score_model(trained, unseen, store=store, device=device, say=say) as scored:
        counts = Counter(row.speaker for row in scored.rows)
        indices = [i for i, row in enumerate(scored.rows) if counts[row.speaker] > 1]
        single = len(scored.rows) - len(indices)
        if single:
            say(f"{counted(single, 'speaker')} with one recording left out")
        probed = Manifest(tuple(scored.rows[i] for i in indices))
        _at_least_two(probed, "with two recordings or more")
        speakers, texts = probed.column("speaker"), probed.column("text")
        say(f"Probing {probed.size}")
        scores = scored.scores
        truth, predicted = (list(map(int, labels[indices])) for labels in (scores.truth, scores.predicted))
        genders = probed.column("gender")
        embeddings = examine_embeddings(scores.embeddings[indices], speakers, texts, genders, truth, predicted)
        inputs = examine_embeddings(np.stack([pool(scored.frames[name]) for name in probed.ids]), speakers, texts)
    trained_on = len(training_speakers & {row.full_name for row in probed})
    left_out = {
        "label unknown": len(table) - len(labelled),
        "speaker unknown": len(labelled) - len(usable),
        **({} if seen else {"speaker trained on": len(rows) - len(unseen)}),
        "not usable": len(unseen) - len(scored.rows),
        "only recording of its speaker": single,
    }
    population = f"speakers ({trained_on} of them trained on)" if trained_on else UNSEEN if training else "speakers"
    return ProbeResult(embeddings, inputs, left_out, trained.about, population, trained.normaliser.transductive)


def _at_least_two(rows: Manifest, which: str, offer_seen: bool = False) -> None:
    if len(rows.speakers) < 2:
        also = ", or --seen to examine those it was trained on too" if offer_seen else ""
        what = f"a speaker probe needs at least 2 speakers {which}, found {len(rows.speakers)}"
        raise TrainingError(what, mend=f"Give recordings of more speakers{also}.")


# The run in RUN/invariance, for splits with too few unseen speakers.


def _held_out(split: Split) -> list[str]:
    """Return the speaker of every recording held out by the first direction of the first fold."""
    direction = split.folds[0].directions[0]
    speaker = {row.id: row.speaker for row in split.manifest}
    return [speaker[name] for name in (*direction.dev, *direction.test)]


def _has_enough_unseen(split: Split) -> bool:
    """Return whether the first fold has enough unseen speakers with more than one recording."""
    return sum(recordings > 1 for recordings in Counter(_held_out(split)).values()) >= LEAST_UNSEEN


def sub_run_settings(settings: Experiment, manifest: Manifest) -> Experiment | None:
    """Return the settings of the run in RUN/invariance, or None if the first fold has at least four unseen speakers.

    It is the same experiment (systems, seeds, recipe, feature store) on a seeded `random` split with as many validation
    and test speakers as in a part of the corpus's default `kfold` (EmoDB: 6 / 2 / 2). The split seed is the first one,
    starting with the run's, that holds out the genders in the corpus's proportions. `manifest` has the rows in use.
    Raises `ConfigError` for fewer than six speakers.
    """
    from unheard.experiments.plan import choose_split

    if _has_enough_unseen(choose_split(settings, manifest)):
        return None
    groups = {identity_of(row, settings.group) for row in manifest}
    protocol, options = default_protocol(settings.corpus, manifest)
    parts = int(str(options["k"])) if protocol == "kfold" else 5
    size = max(_LEAST, round(len(groups) / parts))
    if len(groups) < 2 * size + _LEAST:
        raise ConfigError(
            f"invariance needs at least {2 * size + _LEAST} values of '{settings.group}', {_LEAST} each to train, "
            f"validate and test, not {len(groups)}",
            mend="Leave out --invariance, or take a corpus with more speakers.",
        )
    sizes = (len(groups) - 2 * size, size, size)
    seed = _balanced_seed(manifest, settings.group, sizes, settings.split_seed)
    out, store = Path(settings.out) / FOLDER, settings.store or Path(settings.out) / "features"
    split: dict[str, Any] = {"protocol": "random", "test": "both", "n": sizes, "split_seed": seed, "folds": 0, "k": 0}
    split |= {"column": "", "train_corpora": (), "test_corpora": (), "validation": "held-out"}
    return dataclasses.replace(settings, out=str(out), store=str(store), invariance=False, **split)


def _balanced_seed(manifest: Manifest, group: str, sizes: tuple[int, int, int], first: int) -> int:
    """Return the first split seed, starting with `first`, that holds out the genders in the corpus's proportions.

    If none of `_TRIES` seeds does, return the first with a valid split. If a gender is unknown, any proportion is
    accepted.
    """
    gender = {row.speaker: known_gender(row.gender) for row in manifest}
    women = list(gender.values()).count("female") / len(gender)
    valid: list[int] = []
    for seed in range(first, first + _TRIES):
        try:
            split = make_split(manifest, "random", group=group, n=sizes, seed=seed)
        except SplitError as error:
            last_error = error
            continue
        valid.append(seed)
        held_out = [gender[name] for name in set(_held_out(split))]
        proportionate = "" in gender.values() or abs(held_out.count("female") - len(held_out) * women) < 1
        if _has_enough_unseen(split) and proportionate:
            return seed
    if not valid:
        raise last_error
    return valid[0]
