"""The training loop of every strategy.

    epoch -> validate -> keep the best weights -> (every 20 s) checkpoint -> ... -> evaluate on the test speakers once

On a CPU, training is bit-exactly reproducible, even if it is killed and resumed.
"""

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unheard.errors import TrainingError
from unheard.files import write_text, write_whole
from unheard.model.network import join, side_by_side
from unheard.training.batches import Dataset
from unheard.training.evaluation import Scores, autocast, decision_rule, reestimated_batchnorm, score
from unheard.training.metrics import decision_factors
from unheard.training.recipe import AS_WRITTEN, REESTIMATED, TrainingSettings
from unheard.training.strategies import Strategy

CHECKPOINT_SECONDS = 20.0  # minimum age of the last checkpoint before another is written

LATE = 5  # a training whose best epoch is among the last `LATE` may not have converged


@dataclass
class Best:
    """The best epoch so far on the validation speakers of one direction, with its WA and the evaluated weights."""

    epoch: int = 0
    wa: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The result of a training after `epochs` epochs, for one direction and one mode.

    `mode` is `AS_WRITTEN` or `REESTIMATED` (batch norm). `selected` is true if validation chose `best_epoch`; otherwise
    `best_epoch` is the last epoch. `weights` are the evaluated weights, to be saved as a model.
    """

    direction: str
    epochs: int
    best_epoch: int
    dev: Scores
    test: Scores
    selected: bool = True
    mode: str = AS_WRITTEN
    weights: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def under_trained(self) -> bool:
        """Whether validation was still improving: the best epoch is among the last five."""
        return self.selected and self.best_epoch > self.epochs - LATE and self.epochs > LATE


def join_evaluations(networks: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluation of the joined network from one of each network, in the same direction and mode.

    Logits are averaged, embeddings and weights joined; `best_epoch` is the largest.
    """
    if len(networks) == 1:
        return networks[0]

    def scores(parts: Sequence[Scores]) -> Scores:
        embeddings = side_by_side([torch.from_numpy(part.embeddings) for part in parts]).numpy()
        return replace(parts[0], logits=np.mean([part.logits for part in parts], axis=0), embeddings=embeddings)

    return replace(
        networks[0],
        best_epoch=max(network.best_epoch for network in networks),
        dev=scores([network.dev for network in networks]),
        test=scores([network.test for network in networks]),
        weights=join([network.weights for network in networks]),
    )


class Trainer:
    """A training: its strategy, optimiser, history and best epochs, in a folder from which it can be resumed.

    `train` are the ids to train on. `directions` maps names to validation utterances, which select the epoch (they may
    be empty if `select` is "last"), and test utterances, which are scored once at that epoch. `key` seeds the order of
    the batches (fold and seed, never the strategy, so that comparisons of systems are paired). `recipe.batchnorm` gives
    the modes of evaluation: "running" is `AS_WRITTEN`; "reestimate" is `REESTIMATED`, also in validation; "both" is
    `AS_WRITTEN` as in "running", then `REESTIMATED` for the weights of the last epoch. Evaluation changes neither
    weights nor random streams.
    """

    def __init__(
        self,
        strategy: Strategy,
        dataset: Dataset,
        train: Sequence[str],
        directions: Mapping[str, tuple[Sequence[str], Sequence[str]]],
        recipe: TrainingSettings,
        folder: Path,
        *,
        key: tuple[object, ...] = (),
        device: torch.device | None = None,
        on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        if len(train) < 2:
            raise TrainingError("fewer than two utterances to train on", mend="Check the split.")
        for name, (dev, test) in directions.items():
            if not test or (not dev and recipe.select == "best"):
                what = f"direction '{name}' has no validation or no test utterances"
                raise TrainingError(what, mend="Check the split.")
        self.device = device or torch.device("cpu")
        self.strategy = strategy.move_to(self.device)
        self.dataset, self.train_ids, self.directions, self.recipe = dataset, tuple(train), directions, recipe
        self.folder, self.key, self.on_epoch = folder, key, on_epoch
        self.optimizer = make_optimizer(strategy, recipe)
        self.epoch = 0
        self.best = {name: Best() for name in directions}
        self.history: list[dict[str, Any]] = []
        self._saved_at = time.monotonic()

    def run(self, until: int) -> list[Evaluation]:
        """Train up to epoch `until`; return an evaluation per mode and direction, modes outermost."""
        while self.epoch < until:
            self._one_epoch()
            if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                self.save()
        self.save()
        first, *others = self.recipe.evaluations
        evaluations = self._evaluate(first, self.recipe.select)
        return evaluations + [evaluation for mode in others for evaluation in self._evaluate(mode, "last")]

    def _one_epoch(self) -> None:
        start = time.perf_counter()
        self.strategy.train()
        steps = self.recipe.steps(len(self.train_ids))
        sums: Counter[str] = Counter()
        frames = 0
        parameters = list(self.strategy.parameters())
        batches = self.dataset.epoch(self.train_ids, self.recipe.batch_size, *self.key, self.epoch)
        for step, batch in enumerate(batches):
            self.strategy.progress = (self.epoch + step / steps) / self.recipe.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.lr_at(self.strategy.progress)
            frames += int(batch.lengths.sum())
            batch = batch.to(self.device)
            with autocast(self.device, self.recipe.precision):
                terms = self.strategy(batch)
            loss = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(loss):
                raise self._diverged(f"the loss became {loss.item()} in epoch {self.epoch + 1}, step {step + 1}")
            self.optimizer.zero_grad(set_to_none=True)
            # gradients of the parameters only, not of inputs by which a strategy differentiates
            loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
            self.optimizer.step()
            sums.update({name: float(term.detach()) for name, term in terms.items()})
        self.epoch += 1
        trained = time.perf_counter() - start
        record: dict[str, Any] = {"epoch": self.epoch, "steps": steps}
        record |= {f"loss_{name}": total / steps for name, total in sums.items()}
        record |= self.strategy.observations()
        record |= self._validate()
        record |= {"frames": frames, "train_seconds": trained, "seconds": time.perf_counter() - start}
        self.history.append(record)
        if self.on_epoch is not None:
            self.on_epoch(record)

    def _validate(self) -> dict[str, Any]:
        """Score the validation speakers of every direction, and keep the weights of the best epoch."""
        figures: dict[str, Any] = {}
        with self._evaluation_mode(self.recipe.evaluations[0]):
            for direction, (dev, _) in self.directions.items():
                if not dev:
                    continue
                scores = self._score(dev)
                if not np.isfinite(scores.logits).all():
                    raise self._diverged(f"the network's outputs are not finite after epoch {self.epoch}")
                # strictly better, so that the earliest epoch wins a tie
                if self.recipe.select == "best" and scores.wa > self.best[direction].wa:
                    self.best[direction] = Best(self.epoch, scores.wa, self._weights())
                suffix = "" if len(self.directions) == 1 else f"_{direction}"
                figures |= {f"val_{name}{suffix}": getattr(scores, name) for name in ("wa", "uar", "loss")}
        return figures

    def _diverged(self, what: str) -> TrainingError:
        mend = "Lower the learning rate (--training.lr), λ or ε; check the features with `unheard doctor`."
        return TrainingError(what, where=self.folder, mend=mend)

    @contextmanager
    def _evaluation_mode(self, mode: str) -> Iterator[None]:
        """Apply the batch-norm `mode` and the decision rule to the network in this context."""
        with ExitStack() as stack:
            if mode == REESTIMATED:
                inputs = (self.strategy, self.dataset, self.train_ids, self.recipe.batch_size)
                precision = self.recipe.precision
                stack.enter_context(reestimated_batchnorm(*inputs, device=self.device, precision=precision))
            if self.recipe.decision != "likeliest":
                head = self.strategy.emotion
                labels = [self.dataset.y[name] for name in self.train_ids]
                counts = np.bincount(labels, minlength=head.output.out_features)
                stack.enter_context(decision_rule(head, decision_factors(self.recipe.decision, counts.tolist())))
            yield

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.strategy.state_dict().items()}

    def _score(self, ids: Sequence[str]) -> Scores:
        return score(self.strategy, self.dataset, ids, device=self.device, precision=self.recipe.precision)

    def _evaluate(self, mode: str, select: str) -> list[Evaluation]:
        """Score dev and test utterances of each direction; test utterances are scored nowhere else."""
        last, chosen, selected = self._weights(), self.best, select == "best"
        if not selected:
            with self._evaluation_mode(mode):
                chosen = dict.fromkeys(self.best, Best(self.epoch, weights=self._weights()))
        evaluations = []
        for name, (dev, test) in self.directions.items():
            best = chosen[name]
            self.strategy.load_state_dict(best.weights)
            dev_scores = self._score(dev) if dev else None
            test_scores = self._score(test)
            scores = test_scores.none if dev_scores is None else dev_scores, test_scores
            evaluations.append(Evaluation(name, self.epoch, best.epoch, *scores, selected, mode, best.weights))
        self.strategy.load_state_dict(last)
        return evaluations

    def save(self) -> None:
        """Write the checkpoint and the history, each atomically."""
        state = {
            "identity": self._identity(),
            "epoch": self.epoch,
            "weights": self.strategy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": {name: s.get_state() for name, s in self.strategy.streams().items()},
            "best": {name: vars(best) for name, best in self.best.items()},
            "history": json.dumps(self.history),
        }
        content = io.BytesIO()  # torch's own writer reports a full disk as a RuntimeError
        torch.save(state, content)
        write_whole(self.folder / "checkpoint.pt", lambda path: path.write_bytes(content.getbuffer()))
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        write_text(self.folder / "history.jsonl", lines)
        self._saved_at = time.monotonic()

    def _identity(self) -> str:
        """Return the settings that a checkpoint shares with the resumed training; the number of epochs may differ."""
        epochs = 1 if self.recipe.extensible else self.recipe.epochs
        recipe = replace(self.recipe, epochs=epochs, updates=None, report_epochs=())
        parts = {"strategy": type(self.strategy).__name__, "key": list(map(str, self.key)), "recipe": asdict(recipe)}
        return json.dumps(parts, sort_keys=True)

    def resume(self) -> bool:
        """Continue from the folder's checkpoint; return False if there is none.

        Only tensors and plain values are read (`weights_only`), so a checkpoint cannot run code. Raises `TrainingError`
        for a checkpoint that is damaged or belongs to another training.
        """
        path = self.folder / "checkpoint.pt"
        for leftover in self.folder.glob(".*.tmp"):  # from a process killed while writing
            leftover.unlink(missing_ok=True)
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["identity"] != self._identity():
                raise ValueError(f"it belongs to {state['identity']}, this is {self._identity()}")
            self.strategy.load_state_dict(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            for name, stream in self.strategy.streams().items():
                stream.set_state(state["streams"][name])
            self.best = {name: Best(**state["best"][name]) for name in self.best}
            self.history = json.loads(state["history"])
            self.epoch = int(state["epoch"])
        except Exception as error:
            what = f"the checkpoint cannot be used ({type(error).__name__}: {error})"
            raise TrainingError(what, where=path, mend="Delete it to train from the start.") from error
        return True


def make_optimizer(network: nn.Module, recipe: TrainingSettings) -> torch.optim.Optimizer:
    """Build SGD over all parameters, or AdamW, which decays neither biases nor batch-norm weights."""
    if recipe.optimizer == "sgd":
        options = {name: getattr(recipe, name) for name in ("lr", "momentum", "nesterov", "weight_decay")}
        return torch.optim.SGD(network.parameters(), **options)
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr)
