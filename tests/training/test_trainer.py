"""The trainer on a tiny task in memory: which epoch counts, what is evaluated, and exact resuming."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import (
    BOTH,
    CPU,
    DEV,
    IDS,
    NETWORK,
    ONE,
    TEST,
    TRAIN,
    C,
    F,
    S,
    assert_same,
    assert_same_evaluations,
    assert_same_scores,
    assert_same_tensors,
    scripted,
    strategy,
    tiny,
    trainer,
)
from torch import Tensor

from unheard.errors import ConfigError, TrainingError, UnheardError
from unheard.training.evaluation import Scores, choose_device, reestimated_batchnorm, score
from unheard.training.recipe import AS_WRITTEN, REESTIMATED, TrainingSettings
from unheard.training.strategies import STRATEGIES, StrategyConfig, build
from unheard.training.trainer import Evaluation, Trainer

every_strategy = pytest.mark.parametrize("key", STRATEGIES)


class TestSelection:
    @pytest.mark.parametrize(
        ("right", "best"),
        [((1, 3, 2), 2), ((2, 3, 3, 1), 2), ((4, 4, 4), 1), ((0, 0, 0), 1), ((0, 1, 2, 3), 4), ((3, 1, 4, 4, 0), 3)],
    )
    def test_best_validation_and_the_earliest_on_a_tie(self, right: tuple[int, ...], best: int, tmp_path: Path) -> None:
        training, frames = scripted(right, tmp_path)
        tested: list[int] = []
        training.on_epoch = lambda _: tested.append(sum(name.startswith("test") for name in frames.read))
        (evaluation,) = training.run(len(right))
        assert evaluation.best_epoch == best
        assert [record["val_wa"] for record in training.history] == [n / 4 for n in right]
        assert evaluation.dev.wa == evaluation.test.wa == right[best - 1] / 4
        assert (evaluation.test.embeddings == best).all()  # scored with the weights of that epoch
        assert int(training.strategy.state_dict()["clock"]) == len(right)  # the trainer keeps the last weights
        assert not any(tested)  # test utterances are scored once, after the last epoch
        assert Counter(n for n in frames.read if n.startswith("test")) == {f"test{i}": 1 for i in range(4)}

    def test_a_longer_training_contains_the_shorter_one(self, tmp_path: Path) -> None:
        training, _ = scripted((1, 2, 0, 4), tmp_path)
        assert [(e.epochs, e.best_epoch) for e in training.run(3)] == [(3, 2)]
        assert [(e.epochs, e.best_epoch) for e in training.run(4)] == [(4, 4)]

    def test_under_trained(self, tmp_path: Path) -> None:
        (evaluation,) = scripted((1,), tmp_path)[0].run(1)
        for epochs, best, late in ((100, 100, 1), (100, 96, 1), (100, 95, 0), (100, 1, 0), (5, 5, 0)):
            assert Evaluation("test", epochs, best, evaluation.dev, evaluation.test).under_trained is bool(late)

    def test_two_directions_in_one_training_are_two_trainings(self, tmp_path: Path) -> None:
        both = trainer("mtl", tmp_path / "both", BOTH)
        together = both.run(4)
        alone = [trainer("mtl", tmp_path / name, {name: BOTH[name]}).run(4)[0] for name in BOTH]
        assert_same_evaluations(together, alone)
        assert {"val_wa_female", "val_wa_male"} <= both.history[0].keys()
        assert together[0].dev.ids == DEV == together[1].test.ids


def with_batchnorm(
    folder: Path, batchnorm: Any, select: Any = "best", decision: Any = "likeliest", key: str = "dat"
) -> Trainer:
    recipe = TrainingSettings(epochs=4, batch_size=5, lr=0.05, batchnorm=batchnorm, select=select, decision=decision)
    return Trainer(strategy(key), tiny()[0], TRAIN, BOTH, recipe, folder, key=(0, 0))


class TestBatchNorm:
    @pytest.mark.parametrize(
        ("key", "select", "decision"),
        [("dat", "best", "likeliest"), ("cgt", "last", "likeliest"), ("dat", "last", "both")],
    )
    def test_both_is_as_written_and_the_last_epoch_reestimated(
        self, key: str, select: str, decision: str, tmp_path: Path
    ) -> None:
        both, written, reestimate = (
            with_batchnorm(tmp_path / name, name, how, decision, key)
            for name, how in (("both", select), ("running", select), ("reestimate", "last"))
        )
        both.run(2)  # evaluating in between changes nothing
        again = with_batchnorm(tmp_path / "both", "both", select, decision, key)
        assert again.resume()
        evaluations = again.run(4)
        modes = ((AS_WRITTEN, select == "best"), (REESTIMATED, False))
        expected = [(mode, direction, selected) for mode, selected in modes for direction in BOTH]
        assert [(e.mode, e.direction, e.selected) for e in evaluations] == expected
        as_written, reestimated = written.run(4), reestimate.run(4)
        assert_same_evaluations(evaluations, [*as_written, *reestimated])
        assert_same(again, written)
        assert_same_tensors(again.strategy.state_dict(), reestimate.strategy.state_dict())
        assert not np.allclose(as_written[0].test.logits, reestimated[0].test.logits)
        for evaluation in evaluations:  # the weights it comes with give its scores
            again.strategy.load_state_dict(dict(evaluation.weights))
            assert_same_scores(score(again.strategy, again.dataset, evaluation.test.ids, device=CPU), evaluation.test)

    def test_statistics_are_those_of_the_training_utterances_without_dropout(self, tmp_path: Path) -> None:
        """One batch of all: the first norm sees relu(affine) of every window of every utterance."""
        training = with_batchnorm(tmp_path, "reestimate")
        training.run(1)
        first = next(m for m in training.strategy.modules() if isinstance(m, torch.nn.BatchNorm1d))
        seen: list[Tensor] = []
        before = first.running_mean.clone()  # type: ignore[union-attr]
        hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
        with reestimated_batchnorm(
            training.strategy, training.dataset, TRAIN, len(TRAIN), device=CPU, precision="fp32"
        ):
            hook.remove()
            (values,) = seen
            torch.testing.assert_close(first.running_mean, values.mean(0))
            torch.testing.assert_close(first.running_var, values.var(0))
            assert training.strategy.training
        torch.testing.assert_close(first.running_mean, before, rtol=0, atol=0)
        assert first.momentum == 0.1

    def test_resumed_with_reestimated_validation(self, tmp_path: Path) -> None:
        whole = with_batchnorm(tmp_path / "whole", "reestimate")
        expected = whole.run(4)
        with_batchnorm(tmp_path / "parts", "reestimate").run(2)
        second = with_batchnorm(tmp_path / "parts", "reestimate")
        assert second.resume()
        assert_same_evaluations(second.run(4), expected)
        assert_same(second, whole)
        assert [e.dev.wa for e in expected] == [whole.best[e.direction].wa for e in expected]


class TestResuming:
    @every_strategy
    def test_two_and_two_epochs_are_four(self, key: str, tmp_path: Path) -> None:
        never = trainer(key, tmp_path / "never", BOTH)
        expected = never.run(4)
        for until in (1, 2):  # evaluating in between changes nothing
            paused = trainer(key, tmp_path / "paused", BOTH)
            assert paused.resume() is (until > 1)
            torch.manual_seed(1234)  # the resuming process has another random state
            paused.run(until)
        again = trainer(key, tmp_path / "paused", BOTH)
        assert again.resume()
        assert again.epoch == 2
        again.run(3)
        assert_same_evaluations(again.run(4), expected)
        assert_same(again, never)
        finished = trainer(key, tmp_path / "paused", BOTH, on_epoch=lambda _: pytest.fail("it is finished"))
        assert finished.resume()
        assert_same_evaluations(finished.run(4), expected)

    def test_history_is_written_line_by_line_and_no_other_file_is_left(self, tmp_path: Path) -> None:
        training = trainer("cgt", tmp_path, BOTH)
        training.run(2)
        lines = (tmp_path / "history.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line) for line in lines] == training.history
        assert [record["epoch"] for record in training.history] == [1, 2]
        assert training.history[0]["frames"] == sum(tiny()[1].length(name) for name in TRAIN)
        assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "history.jsonl"}


KILLED = """
import os, signal, sys
from pathlib import Path
from tiny_training import BOTH, trainer
from unheard.training import trainer as trainer_module

trainer_module.CHECKPOINT_SECONDS = -1.0
write, written = Path.write_bytes, []

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def after_third_epoch(record):
    if record["epoch"] == 3:
        die()

def half_of_the_third(path, data):
    if path.name.startswith(".checkpoint") and len(written) == 2:
        write(path, bytes(data)[: len(data) // 2])
        die()
    written.append(path)
    return write(path, data)

trainer("ser", Path(sys.argv[1], "first"), cells=4).run(1)  # what PyTorch loads on first use, once for both
written.clear()
for how in sys.argv[2:]:
    if not (child := os.fork()):
        if how == "save":
            Path.write_bytes = half_of_the_third
        on_epoch = after_third_epoch if how == "epoch" else None
        trainer("cgt", Path(sys.argv[1], how), BOTH, on_epoch=on_epoch, cells=4).run(4)
        os._exit(0)
    print(how, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_killed_and_resumed_as_never_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), "epoch", "save"]
    died = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120)
    assert died.stdout.split() == ["epoch", str(-signal.SIGKILL), "save", str(-signal.SIGKILL)], died.stderr
    never = trainer("cgt", tmp_path / "never", BOTH, cells=4)
    expected = never.run(4)
    assert list((tmp_path / "save").glob(".checkpoint.pt.*.tmp"))
    for how in ("epoch", "save"):
        again = trainer("cgt", tmp_path / how, BOTH, cells=4)
        assert again.resume()
        assert again.epoch == 2  # the last one written whole
        assert not list((tmp_path / how).glob(".*.tmp"))
        assert_same_evaluations(again.run(4), expected)
        assert_same(again, never)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class TestBadCheckpoints:
    def test_damaged_or_of_another_program(self, tmp_path: Path) -> None:
        training = trainer("ser", tmp_path)
        training.save()
        path = tmp_path / "checkpoint.pt"
        whole = path.read_bytes()
        flipped, quarter = bytearray(whole), len(whole) // 4
        flipped[quarter : 3 * quarter] = bytes(b ^ 255 for b in whole[quarter : 3 * quarter])
        for content in (b"", whole[: 2 * quarter], b"hello", flipped, [1, 2], {"epoch": 3}, {}):
            path.write_bytes(content) if isinstance(content, (bytes, bytearray)) else torch.save(content, path)
            with pytest.raises(TrainingError, match=r"checkpoint cannot be used.*Delete it") as raised:
                training.resume()
            assert str(path) in str(raised.value)

    def test_of_another_training(self, tmp_path: Path) -> None:
        mtl = trainer("mtl", tmp_path)
        speaker_more = build("mtl", StrategyConfig(F, C, S + 1, NETWORK, 0))
        larger = Trainer(speaker_more, tiny()[0], TRAIN, ONE, mtl.recipe, tmp_path, key=(0, 0))
        for trained, resumed, message in (
            (trainer("ser", tmp_path), trainer("dat", tmp_path), "it belongs to"),
            (trainer("dat", tmp_path), mtl, "it belongs to"),  # with the same parts
            (trainer("ser", tmp_path, lr=0.5), trainer("ser", tmp_path, lr=0.25), "it belongs to"),
            (with_batchnorm(tmp_path, "reestimate"), with_batchnorm(tmp_path, "running"), "it belongs to"),
            (trainer("ser", tmp_path), trainer("ser", tmp_path, BOTH), "KeyError"),
            (mtl, larger, "size mismatch"),
        ):
            trained.save()
            with pytest.raises(TrainingError, match=rf"(?s)checkpoint cannot be used.*{message}"):
                resumed.resume()

    def test_it_cannot_run_code(self, tmp_path: Path) -> None:
        evil = tmp_path / "evil"
        for content in (Malicious(evil), {"weights": Malicious(evil)}):
            torch.save(content, tmp_path / "checkpoint.pt")
            with pytest.raises(TrainingError, match="checkpoint"):
                trainer("ser", tmp_path).resume()
            assert not evil.exists()
        torch.load(tmp_path / "checkpoint.pt", weights_only=False)
        assert evil.exists()  # it would have

    def test_a_full_disk_keeps_the_last_checkpoint(self, tmp_path: Path) -> None:
        training = trainer("ser", tmp_path)
        training.run(1)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["checkpoint.pt"]) // 2, limits[1]))
        try:
            with pytest.raises(UnheardError, match=r"cannot be written.*free some space"):
                training.run(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        again = trainer("ser", tmp_path)
        assert again.resume()
        assert again.epoch == 1


class TestTraining:
    @pytest.mark.parametrize("key", ["ser", "cgt"])
    def test_one_epoch_is_the_literal_loop(self, key: str, tmp_path: Path) -> None:
        training = trainer(key, tmp_path)
        training.run(2)
        model, dataset = strategy(key).train(), tiny()[0]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        for epoch in range(2):
            totals = []
            for step, batch in enumerate(dataset.epoch(TRAIN, 5, 0, 0, epoch)):
                model.progress = (epoch + step / 3) / 4
                optimizer.zero_grad()
                loss = sum(model(batch).values())
                loss.backward()
                optimizer.step()
                totals.append(float(loss.detach()))
            terms = [v for name, v in training.history[epoch].items() if name.startswith("loss_")]
            assert sum(terms) == pytest.approx(sum(totals) / len(totals), rel=1e-5)
        assert training.history[0]["steps"] == 3
        torch.testing.assert_close(training.strategy.state_dict(), model.state_dict())

    def test_a_loss_that_is_no_number_stops_it(self, tmp_path: Path) -> None:
        training = trainer("ser", tmp_path)
        training.run(1)
        before = (tmp_path / "checkpoint.pt").read_bytes()
        training.dataset.frames.arrays["u03"][0, 0] = np.nan  # type: ignore[attr-defined]
        with pytest.raises(TrainingError, match=r"the loss became nan in epoch 2, step \d.*learning rate"):
            training.run(2)
        assert (tmp_path / "checkpoint.pt").read_bytes() == before

        for select in ("best", "last"):  # one step of one epoch goes astray: its loss is that of the weights before
            recipe = TrainingSettings(epochs=1, batch_size=len(IDS), lr=1e25, select=select)
            training = Trainer(strategy("ser"), tiny()[0], IDS, ONE, recipe, tmp_path)
            with pytest.raises(TrainingError, match=r"not finite after epoch 1.*learning rate"):
                training.run(1)

    def test_too_few_utterances(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="fewer than two"):
            Trainer(strategy("ser"), tiny()[0], IDS[:1], ONE, TrainingSettings(), tmp_path)
        with pytest.raises(TrainingError, match="no validation or no test"):
            trainer("ser", tmp_path, {"test": ((), TEST)})

    def test_no_number_of_utterances_leaves_one_alone_and_bf16_trains_too(self, tmp_path: Path) -> None:
        how = [("ser", count, size, "fp32") for count, size in ((2, 3), (4, 3), (5, 4), (7, 3), (9, 4), (11, 32))]
        for key, count, size, precision in (*how, ("cgt", len(TRAIN), 5, "bf16")):
            recipe = TrainingSettings(epochs=1, batch_size=size, precision=precision)
            (evaluation,) = Trainer(strategy(key), tiny()[0], IDS[:count], ONE, recipe, tmp_path).run(1)
            assert evaluation.test.logits.dtype == np.float32
            assert np.isfinite(evaluation.test.logits).all()

    def test_no_such_device(self) -> None:
        assert choose_device("cpu") == CPU
        with pytest.raises(ConfigError, match="no device 'tpu'"):
            choose_device("tpu")


class TestScoring:
    def test_in_the_order_asked_for_as_if_alone_and_moving_nothing(self) -> None:
        model, untouched, (dataset, _) = strategy("ser").train(), strategy("ser"), tiny()
        ids = [IDS[i] for i in np.random.default_rng(1).permutation(26)]
        scores = score(model, dataset, ids, device=CPU, size=7)
        assert model.training
        assert scores.ids == tuple(ids)
        assert scores.truth.tolist() == [dataset.y[name] for name in ids]
        for index, name in enumerate(ids):
            alone = score(model, dataset, [name], device=CPU)
            assert np.allclose(alone.logits[0], scores.logits[index], atol=1e-5)
            assert np.allclose(alone.embeddings[0], scores.embeddings[index], atol=1e-5)

        assert_same_tensors(model.state_dict(), untouched.state_dict())
        for name, stream in model.streams().items():
            assert torch.equal(stream.get_state(), untouched.streams()[name].get_state())

    def test_figures(self) -> None:
        logits = np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1000.0, 0.0]], np.float32)
        scores = Scores(("a", "b", "c", "d"), np.array([0, 1, 1, 0]), logits, np.zeros((4, 1), np.float32))
        assert scores.predicted.tolist() == [0, 0, 1, 0]
        assert scores.wa == 0.75
        assert scores.uar == 0.75
        e = np.exp(2)
        assert scores.probabilities[0] == pytest.approx([e / (e + 1), 1 / (e + 1)])
        assert scores.probabilities[3].tolist() == [1, 0]
        expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(scores.truth))
        assert scores.loss == pytest.approx(float(expected), rel=1e-6)
        assert scores.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
