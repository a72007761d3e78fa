"""The trainer on a tiny task in memory: which epoch counts, and that no interruption changes a bit."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from unheard.errors import ConfigError, TrainingError, UnheardError
from unheard.files import write_text, write_whole
from unheard.training import trainer as trainer_module
from unheard.training.anew import statistics_anew
from unheard.training.batches import Task, draw_batches
from unheard.training.device import choose_device
from unheard.training.evaluation import Scores, score
from unheard.training.network import NetworkSettings
from unheard.training.recipe import Recipe
from unheard.training.seeds import derive
from unheard.training.strategies import STRATEGIES, Batch, Setting, Strategy, build
from unheard.training.trainer import Reading, Readout, Trainer

F, C, S = 4, 3, 3
NETWORK = NetworkSettings(tdnn=((6, 5, 2), (5, 3, 4)), lstm=8, dense=6, hidden=(5, 5))
OPTIONS = {"dat": {"lam": 0.5, "schedule": "ganin"}}  # one that needs to know how far the training is
CPU = torch.device("cpu")


class InMemory:
    """Frames in a dictionary, with a list of what was read."""

    def __init__(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        self.arrays, self.read = arrays, list[str]()

    def length(self, utterance: str) -> int:
        return len(self.arrays[utterance])

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        self.read.append(utterance)
        return self.arrays[utterance]


def tiny(utterances: int = 26) -> tuple[Task, InMemory]:
    """Emotions that differ in mean and speakers that differ in slope, under noise."""
    random = np.random.default_rng(0)
    arrays, y, s = {}, {}, {}
    for i in range(utterances):
        name = f"u{i:02}"
        y[name], s[name] = i % C, (i // C) % S
        length = int(random.integers(3, 30))
        noise = random.standard_normal((length, F))
        arrays[name] = (noise + 0.5 * y[name] + np.linspace(0, s[name], length)[:, None]).astype(np.float32)
    frames = InMemory(arrays)
    return Task(frames, y, s), frames


IDS = [f"u{i:02}" for i in range(26)]
TRAIN, DEV, TEST = IDS[:14], tuple(IDS[14:20]), tuple(IDS[20:])
READINGS = (Reading("test", DEV, TEST),)
BOTH = (Reading("female", DEV, TEST), Reading("male", TEST, DEV))


def strategy(key: str, dropout: float = 0.5, cells: int = NETWORK.lstm) -> Strategy:
    setting = Setting(F, C, S, NetworkSettings(**{**vars(NETWORK), "dropout": dropout, "lstm": cells}), 0)
    return build(key, setting, OPTIONS.get(key))


def trainer(
    key: str,
    folder: Path,
    readings: Sequence[Reading] = READINGS,
    *,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
    cells: int = NETWORK.lstm,
    lr: float = 0.05,
) -> Trainer:
    recipe = Recipe(epochs=4, batch_size=5, lr=lr)
    model = strategy(key, cells=cells)
    return Trainer(model, tiny()[0], TRAIN, readings, recipe, folder, key=(0, 0), on_epoch=on_epoch)


def figures(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history without what the clock said."""
    return [{name: v for name, v in record.items() if "seconds" not in name} for record in history]


def assert_same_tensors(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def assert_same_scores(one: Scores, other: Scores) -> None:
    assert one.ids == other.ids
    for name in ("truth", "logits", "embeddings"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def assert_same(one: Trainer, other: Trainer) -> None:
    """Everything a training is made of, equal to the bit."""
    assert one.epoch == other.epoch
    assert_same_tensors(one.strategy.state_dict(), other.strategy.state_dict())
    assert_same_tensors(one.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"])
    streams = other.strategy.streams()
    assert one.strategy.streams().keys() == streams.keys()
    for name, stream in one.strategy.streams().items():
        assert torch.equal(stream.get_state(), streams[name].get_state()), name
    assert figures(one.history) == figures(other.history)
    for name, best in one.best.items():
        assert (best.epoch, best.wa) == (other.best[name].epoch, other.best[name].wa)
        assert_same_tensors(best.weights, other.best[name].weights)


def assert_same_readouts(one: Sequence[Readout], other: Sequence[Readout]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.reading, a.epochs, a.best_epoch) == (b.reading, b.epochs, b.best_epoch)
        assert_same_scores(a.dev, b.dev)
        assert_same_scores(a.test, b.test)


@final
class Scripted(Strategy):
    """Right about the first so many utterances of a list, how many depends on the epoch: a visible selection.

    Its frames hold (position in the list, truth); one step an epoch is counted in a buffer, which is restored with
    the weights.
    """

    clock: Tensor

    def __init__(self, right: Sequence[int]) -> None:
        super().__init__(Setting(2, 2, 2, NETWORK, 0))
        self.right = right
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.clock += 1
        return {"emotion": 0.0 * sum(p.sum() for p in self.parameters())}

    def logits(self, x: Tensor, lengths: Tensor, voice: Tensor | None = None) -> tuple[Tensor, Tensor]:
        place, truth = x[:, 0, 0], x[:, 0, 1].long()
        right = place < self.right[int(self.clock) - 1]
        return torch.eye(2)[torch.where(right, truth, 1 - truth)], self.clock.expand(len(x), 1).float()


def scripted(right: Sequence[int], folder: Path) -> tuple[Trainer, InMemory]:
    """Four validation and four test utterances, `right[epoch - 1]` of each classified right."""
    y = {f"{part}{i}": i % 2 for part in ("train", "dev", "test") for i in range(4)}
    frames = InMemory({name: np.array([[int(name[-1]), truth]] * 2, np.float32) for name, truth in y.items()})
    readings = [Reading("test", *(tuple(n for n in y if n.startswith(part)) for part in ("dev", "test")))]
    train = [name for name in y if name.startswith("train")]
    recipe = Recipe(epochs=len(right))
    return Trainer(Scripted(right), Task(frames, y, {}), train, readings, recipe, folder), frames


class TestSelection:
    @pytest.mark.parametrize(
        ("right", "best"),
        [((1, 3, 2), 2), ((2, 3, 3, 1), 2), ((4, 4, 4), 1), ((0, 0, 0), 1), ((0, 1, 2, 3), 4), ((3, 1, 4, 4, 0), 3)],
    )
    def test_best_validation_and_the_earliest_on_a_tie(self, right: tuple[int, ...], best: int, tmp_path: Path) -> None:
        training, _ = scripted(right, tmp_path)
        (readout,) = training.run(len(right))
        assert readout.best_epoch == best
        assert [record["val_wa"] for record in training.history] == [n / 4 for n in right]
        assert readout.dev.wa == readout.test.wa == right[best - 1] / 4
        assert (readout.test.embeddings == best).all()  # scored with the weights of that epoch

    def test_the_test_is_scored_once_and_after_the_last_epoch(self, tmp_path: Path) -> None:
        training, frames = scripted((1, 3, 2), tmp_path)
        seen: list[int] = []
        training.on_epoch = lambda _: seen.append(sum(name.startswith("test") for name in frames.read))
        training.run(3)
        assert seen == [0, 0, 0]
        assert Counter(name for name in frames.read if name.startswith("test")) == {f"test{i}": 1 for i in range(4)}

    def test_reading_out_leaves_the_last_weights(self, tmp_path: Path) -> None:
        training, _ = scripted((4, 1, 1), tmp_path)
        training.run(3)
        assert int(training.strategy.state_dict()["clock"]) == 3

    def test_a_longer_training_contains_the_shorter_one(self, tmp_path: Path) -> None:
        training, _ = scripted((1, 2, 0, 4), tmp_path)
        assert [(r.epochs, r.best_epoch) for r in training.run(3)] == [(3, 2)]
        assert [(r.epochs, r.best_epoch) for r in training.run(4)] == [(4, 4)]

    @pytest.mark.parametrize(
        ("epochs", "best", "late"),
        [(100, 100, True), (100, 96, True), (100, 95, False), (100, 1, False), (5, 5, False)],
    )
    def test_under_trained(self, epochs: int, best: int, late: bool, tmp_path: Path) -> None:
        (readout,) = scripted((1,), tmp_path)[0].run(1)
        assert Readout("test", epochs, best, readout.dev, readout.test).under_trained is late

    def test_two_readings_in_one_training_are_two_trainings(self, tmp_path: Path) -> None:
        both = trainer("mtl", tmp_path / "both", BOTH)
        together = both.run(4)
        alone = [trainer("mtl", tmp_path / r.name, (r,)).run(4)[0] for r in BOTH]
        assert_same_readouts(together, alone)
        assert {"val_wa_female", "val_wa_male"} <= both.history[0].keys()
        assert together[0].dev.ids == DEV == together[1].test.ids


class TestResuming:
    @pytest.mark.parametrize("key", STRATEGIES)
    def test_two_and_two_epochs_are_four(self, key: str, tmp_path: Path) -> None:
        never = trainer(key, tmp_path / "never", BOTH)
        expected = never.run(4)
        trainer(key, tmp_path / "twice", BOTH).run(2)
        again = trainer(key, tmp_path / "twice", BOTH)
        assert again.resume()
        assert again.epoch == 2
        torch.manual_seed(1234)  # the process it goes on in has another random state
        assert_same_readouts(again.run(4), expected)
        assert_same(again, never)

    def test_reading_out_in_between_changes_nothing(self, tmp_path: Path) -> None:
        never, paused = trainer("cgt", tmp_path / "never"), trainer("cgt", tmp_path / "paused")
        expected = never.run(4)
        for until in (1, 2, 3):
            paused.run(until)
        assert_same_readouts(paused.run(4), expected)
        assert_same(paused, never)

    def test_a_finished_training_is_read_out_again_without_training(self, tmp_path: Path) -> None:
        expected = trainer("ser", tmp_path).run(2)
        epochs: list[Any] = []
        again = trainer("ser", tmp_path, on_epoch=epochs.append)
        assert again.resume()
        assert_same_readouts(again.run(2), expected)
        assert not epochs

    def test_nothing_to_resume(self, tmp_path: Path) -> None:
        assert not trainer("ser", tmp_path).resume()

    def test_checkpoints_come_when_there_is_something_to_lose(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        saved: list[int] = []
        monkeypatch.setattr(Trainer, "save", lambda self: saved.append(self.epoch))
        trainer("ser", tmp_path).run(3)
        assert saved == [3]
        monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", -1.0)
        trainer("ser", tmp_path).run(3)
        assert saved == [3, 1, 2, 3, 3]

    def test_history_is_written_line_by_line(self, tmp_path: Path) -> None:
        training = trainer("cgt", tmp_path, BOTH)
        training.run(2)
        lines = (tmp_path / "history.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line) for line in lines] == training.history
        assert [record["epoch"] for record in training.history] == [1, 2]
        assert training.history[0]["frames"] == sum(tiny()[1].length(name) for name in TRAIN)

    def test_no_temporary_file_is_left(self, tmp_path: Path) -> None:
        trainer("ser", tmp_path).run(1)
        assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "history.jsonl"}


KILLED = """
import os, signal, sys
from pathlib import Path
from test_trainer import BOTH, trainer, trainer_module

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


class TestKilled:
    def test_killed_and_resumed_as_never_killed(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", KILLED, str(tmp_path), "epoch", "save"]
        died = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120)
        assert died.stdout.split() == ["epoch", str(-signal.SIGKILL), "save", str(-signal.SIGKILL)], died.stderr
        assert list((tmp_path / "save").glob(".checkpoint.pt.*.tmp"))
        never = trainer("cgt", tmp_path / "never", BOTH, cells=4)
        expected = never.run(4)
        for how in ("epoch", "save"):
            again = trainer("cgt", tmp_path / how, BOTH, cells=4)
            assert again.resume()
            assert again.epoch == 2  # the last one written whole
            assert_same_readouts(again.run(4), expected)
            assert_same(again, never)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class TestBadCheckpoints:
    @pytest.mark.parametrize("how", ["empty", "truncated", "text", "flipped"])
    def test_damaged(self, how: str, tmp_path: Path) -> None:
        trainer("ser", tmp_path).run(1)
        path = tmp_path / "checkpoint.pt"
        whole = path.read_bytes()
        data = bytearray(whole)
        data[len(whole) // 4 : 3 * len(whole) // 4] = bytes(
            b ^ 255 for b in whole[len(whole) // 4 : 3 * len(whole) // 4]
        )
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello", "flipped": data}[how])
        with pytest.raises(TrainingError, match="Delete it") as raised:
            trainer("ser", tmp_path).resume()
        assert str(path) in str(raised.value)

    def test_of_another_strategy(self, tmp_path: Path) -> None:
        trainer("ser", tmp_path).run(1)
        with pytest.raises(TrainingError, match="checkpoint"):
            trainer("dat", tmp_path).resume()

    def test_of_another_strategy_with_the_same_parts(self, tmp_path: Path) -> None:
        trainer("dat", tmp_path).run(1)
        with pytest.raises(TrainingError, match="belongs to"):
            trainer("mtl", tmp_path).resume()

    def test_of_another_learning_rate(self, tmp_path: Path) -> None:
        trainer("ser", tmp_path, lr=0.5).run(1)
        with pytest.raises(TrainingError, match="belongs to"):
            trainer("ser", tmp_path, lr=0.25).resume()

    def test_what_a_killed_process_left_is_removed(self, tmp_path: Path) -> None:
        leftover = tmp_path / ".checkpoint.pt.123.tmp"
        leftover.write_bytes(b"half")
        trainer("ser", tmp_path).resume()
        assert not leftover.exists()

    def test_a_reading_without_utterances(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="nobody to validate"):
            trainer("ser", tmp_path, [Reading("test", (), READINGS[0].test)])

    def test_of_another_size(self, tmp_path: Path) -> None:
        trainer("mtl", tmp_path).run(1)
        other = build("mtl", Setting(F, C, S + 1, NETWORK, 0))
        training = Trainer(other, tiny()[0], TRAIN, READINGS, Recipe(), tmp_path)
        with pytest.raises(TrainingError, match="checkpoint"):
            training.resume()

    def test_of_other_readings(self, tmp_path: Path) -> None:
        trainer("ser", tmp_path).run(1)
        with pytest.raises(TrainingError, match="checkpoint"):
            trainer("ser", tmp_path, BOTH).resume()

    @pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}])
    def test_of_another_program(self, content: object, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "checkpoint.pt")
        with pytest.raises(TrainingError, match="checkpoint"):
            trainer("ser", tmp_path).resume()

    def test_no_code_runs_from_one(self, tmp_path: Path) -> None:
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


class TestWholeFiles:
    def test_the_old_file_stays_until_the_new_one_is_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folder" / "file"
        write_text(path, "old")

        def half(temporary: Path) -> None:
            temporary.write_text("ne")
            assert path.read_text() == "old"
            raise OSError(28, "No space left on device")

        with pytest.raises(UnheardError, match=r"No space left on device.*free some space"):
            write_whole(path, half)
        assert path.read_text() == "old"
        assert list(path.parent.iterdir()) == [path]

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UnheardError, match=r"cannot be written.*a file"):
            write_text(tmp_path / "file" / "inside", "text")


class TestTraining:
    def test_it_learns(self, tmp_path: Path) -> None:
        training = Trainer(strategy("ser", 0.0), tiny()[0], TRAIN, READINGS, Recipe(30, 14, 0.1), tmp_path)
        training.run(30)
        losses = [record["loss_emotion"] for record in training.history]
        assert losses[-1] < 0.6 * losses[0]

    @pytest.mark.parametrize("key", ["ser", "cgt"])
    def test_one_epoch_is_the_literal_loop(self, key: str, tmp_path: Path) -> None:
        training = trainer(key, tmp_path)
        training.run(2)
        model, task = strategy(key).train(), tiny()[0]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        for epoch in range(2):
            totals = []
            for step, batch in enumerate(task.epoch(TRAIN, 5, 0, 0, epoch)):
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

    @pytest.mark.parametrize("key", STRATEGIES)
    def test_every_strategy_sees_the_same_batches(self, key: str, tmp_path: Path) -> None:
        seen: list[list[list[int]]] = []
        for each in ("ser", key):
            training, own = trainer(each, tmp_path / each), list[list[int]]()
            plain = training.strategy.forward

            def spy(batch: Batch, plain: Any = plain, own: Any = own) -> dict[str, Tensor]:
                own.append([*batch.lengths.tolist(), *batch.y.tolist(), *batch.s.tolist()])
                return plain(batch)

            training.strategy.forward = spy  # type: ignore[method-assign]
            training.run(2)
            seen.append(own)
        assert seen[0] == seen[1]
        assert seen[0][:3] != seen[0][3:]  # another order in the second epoch

    def test_a_loss_that_is_no_number_stops_it(self, tmp_path: Path) -> None:
        training = trainer("ser", tmp_path)
        training.run(1)
        before = (tmp_path / "checkpoint.pt").read_bytes()
        training.task.frames.arrays["u03"][0, 0] = np.nan  # type: ignore[attr-defined]
        with pytest.raises(TrainingError, match=r"the loss became nan in epoch 2, step \d.*learning rate"):
            training.run(2)
        assert (tmp_path / "checkpoint.pt").read_bytes() == before

    @pytest.mark.parametrize("select", ["best", "last"])
    def test_a_last_step_that_goes_astray_is_no_result(self, select: str, tmp_path: Path) -> None:
        """One step of one epoch: its loss is that of the weights before."""
        recipe = Recipe(epochs=1, batch_size=len(IDS), lr=1e25, select=select)
        training = Trainer(strategy("ser"), tiny()[0], IDS, READINGS, recipe, tmp_path)
        with pytest.raises(TrainingError, match=r"is no number after epoch 1.*learning rate"):
            training.run(1)

    def test_too_few_utterances(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="fewer than two"):
            Trainer(strategy("ser"), tiny()[0], IDS[:1], READINGS, Recipe(), tmp_path)

    @pytest.mark.parametrize("utterances", range(2, 12))
    @pytest.mark.parametrize("size", [3, 4, 32])
    def test_no_number_of_utterances_leaves_one_alone(self, utterances: int, size: int, tmp_path: Path) -> None:
        recipe = Recipe(epochs=1, batch_size=size)
        (readout,) = Trainer(strategy("ser"), tiny()[0], IDS[:utterances], READINGS, recipe, tmp_path).run(1)
        assert np.isfinite(readout.test.logits).all()

    def test_bf16_trains_too(self, tmp_path: Path) -> None:
        recipe = Recipe(epochs=1, batch_size=5, precision="bf16")
        (readout,) = Trainer(strategy("cgt"), tiny()[0], TRAIN, READINGS, recipe, tmp_path).run(1)
        assert readout.test.logits.dtype == np.float32
        assert np.isfinite(readout.test.logits).all()

    def test_no_such_device(self) -> None:
        assert choose_device("cpu") == CPU
        with pytest.raises(ConfigError, match="no device 'tpu'"):
            choose_device("tpu")


class TestScoring:
    def test_in_the_order_asked_for_and_as_if_alone(self) -> None:
        model, (task, _) = strategy("ser").train(), tiny()
        ids = [IDS[i] for i in np.random.default_rng(1).permutation(26)]
        scores = score(model, task, ids, device=CPU, size=7)
        assert model.training
        assert scores.ids == tuple(ids)
        assert scores.truth.tolist() == [task.y[name] for name in ids]
        for index, name in enumerate(ids):
            alone = score(model, task, [name], device=CPU)
            assert np.allclose(alone.logits[0], scores.logits[index], atol=1e-5)
            assert np.allclose(alone.embeddings[0], scores.embeddings[index], atol=1e-5)

    def test_scoring_moves_nothing(self) -> None:
        model, other = strategy("ser").train(), strategy("ser")
        score(model, tiny()[0], IDS, device=CPU)
        assert_same_tensors(model.state_dict(), other.state_dict())
        for name, stream in model.streams().items():
            assert torch.equal(stream.get_state(), other.streams()[name].get_state())

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


class TestBatches:
    @pytest.mark.parametrize("size", [2, 3, 8, 32])
    @pytest.mark.parametrize("count", [2, 7, 31, 32, 33, 100, 1001])
    def test_every_utterance_once_in_even_batches(self, count: int, size: int) -> None:
        batches = draw_batches(count, size, seed=1)
        assert sorted(i for batch in batches for i in batch) == list(range(count))
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= size
        assert len(batches) == -(-count // size)

    def test_reshuffled_every_epoch(self) -> None:
        one, same, other = (draw_batches(200, 8, seed) for seed in (1, 1, 2))
        assert one == same

        def together(batches: list[list[int]]) -> set[tuple[int, int]]:
            return {(a, b) for batch in batches for a in batch for b in batch if a < b}

        shared = len(together(one) & together(other)) / len(together(one))
        assert shared < 0.1  # which utterances meet changes, not only the order of fixed batches

    def test_an_epoch_depends_on_its_seed_alone(self) -> None:
        task, _ = tiny()

        def order(*seed: object) -> list[list[int]]:
            return [batch.lengths.tolist() for batch in task.epoch(IDS, 5, *seed)]

        first = order("fold", 0, 3)
        np.random.default_rng().random()
        torch.manual_seed(5)
        assert order("fold", 0, 3) == first
        assert order("fold", 0, 4) != first
        assert order("fold", 1, 3) != first

    def test_a_batch_holds_the_utterances_padded_with_zeros(self) -> None:
        task, frames = tiny()
        ids = IDS[4:8]
        batch = task.batch(ids)
        for name, row, length, y, s in zip(ids, batch.x, batch.lengths, batch.y, batch.s, strict=True):
            assert np.array_equal(row[:length].numpy(), frames.arrays[name])
            assert not row[length:].any()
            assert (int(y), int(s)) == (task.y[name], task.s[name])

    def test_a_speaker_outside_training_has_no_index(self) -> None:
        task, frames = tiny()
        assert Task(frames, task.y, {"u00": 2}).batch(["u00", "u01"]).s.tolist() == [2, -1]

    def test_seeds_are_the_same_everywhere(self) -> None:
        assert derive(0, "embed", "weights") == derive("0", "embed", "weights")
        assert len({derive(*parts) for parts in [(0, 1), (1, 0), ("01",), (0, 1, "")]}) == 4
        assert all(0 <= derive(i) < 2**63 for i in range(50))


class TestRecipe:
    def test_the_papers(self) -> None:
        recipe = Recipe()
        assert (recipe.epochs, recipe.lr, recipe.momentum, recipe.nesterov) == (100, 1e-3, 0.9, True)
        assert (recipe.batch_size, recipe.weight_decay) == (32, 0.0)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"epochs": 0},
            {"batch_size": 2},
            {"lr": 0.0},
            {"lr": -1.0},
            {"lr": float("nan")},
            {"lr": float("inf")},
            {"momentum": 1.0},
            {"momentum": -0.1},
            {"weight_decay": -1e-3},
            {"weight_decay": float("inf")},
            {"precision": "fp16"},
            {"readouts": (20, 0)},
        ],
    )
    def test_out_of_range(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Recipe(**wrong)

    def test_nesterov_needs_a_momentum(self) -> None:
        with pytest.raises(ConfigError, match="momentum"):
            Recipe(momentum=0.0)
        assert Recipe(momentum=0.0, nesterov=False).momentum == 0.0

    @pytest.mark.parametrize(
        "unheard_of",
        [
            {"warmup": 0.1},
            {"warmup": 0.0, "optimizer": "adamw"},
            {"momentum": 0.5, "optimizer": "adamw"},
            {"nesterov": False, "optimizer": "adamw"},
        ],
    )
    def test_settings_that_nothing_would_hear(self, unheard_of: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(unheard_of))):
            Recipe(**unheard_of)
        assert Recipe(warmup=0.1, schedule="onecycle").warmup == 0.1

    def test_budgets(self) -> None:
        assert Recipe(epochs=100).budgets == (100,)
        assert Recipe(epochs=100, readouts=(50, 20, 20, 100, 200)).budgets == (20, 50, 100)


def anew(folder: Path, statistics: str = "anew", epochs: int = 4, select: str = "best") -> Trainer:
    recipe = Recipe(epochs=epochs, batch_size=5, lr=0.05, statistics=statistics, select=select)
    return Trainer(strategy("dat"), tiny()[0], TRAIN, BOTH, recipe, folder, key=(0, 0))


def test_statistics_taken_anew_change_what_is_read_and_nothing_that_is_trained(tmp_path: Path) -> None:
    one, other = anew(tmp_path / "a"), anew(tmp_path / "b", "running")
    read, as_ever = one.run(4), other.run(4)
    assert_same_tensors(one.strategy.state_dict(), other.strategy.state_dict())
    assert_same_tensors(one.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"])
    assert not np.allclose(read[0].test.logits, as_ever[0].test.logits)
    # what was validated is what is read out, and what is kept
    for readout in read:
        best = one.best[readout.reading]
        assert readout.dev.wa == best.wa
        one.strategy.load_state_dict(best.weights)
        ids = readout.test.ids
        assert_same_scores(score(one.strategy, one.task, ids, device=torch.device("cpu")), readout.test)


def test_statistics_anew_are_those_of_the_training_utterances_without_dropout(tmp_path: Path) -> None:
    """One batch of all: the first norm sees relu(affine) of every window of every utterance."""
    training = anew(tmp_path, epochs=1)
    training.run(1)
    first = next(m for m in training.strategy.modules() if isinstance(m, torch.nn.BatchNorm1d))
    seen: list[torch.Tensor] = []
    before = first.running_mean.clone()  # type: ignore[union-attr]
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    with statistics_anew(training.strategy, training.task, TRAIN, len(TRAIN), device=torch.device("cpu")):
        hook.remove()
        (values,) = seen
        torch.testing.assert_close(first.running_mean, values.mean(0))
        torch.testing.assert_close(first.running_var, values.var(0))
        assert training.strategy.training
    torch.testing.assert_close(first.running_mean, before, rtol=0, atol=0)
    assert first.momentum == 0.1


@pytest.mark.parametrize("select", ["best", "last"])
def test_resumed_with_statistics_anew(tmp_path: Path, select: str) -> None:
    whole = anew(tmp_path / "whole", select=select)
    expected = whole.run(4)
    anew(tmp_path / "parts", select=select).run(2)
    second = anew(tmp_path / "parts", select=select)
    assert second.resume()
    assert_same_readouts(second.run(4), expected)
    assert_same(second, whole)
    with pytest.raises(TrainingError, match="belongs to"):
        anew(tmp_path / "parts", "running", select=select).resume()
