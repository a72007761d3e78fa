"""Loggers of training epochs in addition to the JSONL history: TensorBoard, MLflow, Weights & Biases, plug-ins.

A logger is a context manager `logger(folder, settings)` around the training of one cell. It yields a function that
takes each epoch's metrics. MLflow and W&B read their server and project from their own environment variables.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from unheard import plugins
from unheard.errors import MissingExtra

Metrics: TypeAlias = Mapping[str, Any]
Log: TypeAlias = Callable[[Metrics], object]
Logger: TypeAlias = Callable[[Path, Mapping[str, Any]], AbstractContextManager[Log]]


def _numbers(metrics: Metrics) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name != "epoch" and isinstance(value, (int, float))}


@contextmanager
def tensorboard(folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Write scalars to `folder`/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:

        def log(metrics: Metrics) -> None:
            for name, value in _numbers(metrics).items():
                writer.add_scalar(name, value, metrics["epoch"])
            writer.flush()

        yield log


@contextmanager
def mlflow(folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Log to a run named like the cell, with its settings as parameters."""
    import mlflow

    with mlflow.start_run(run_name=folder.name):
        mlflow.log_params(settings)
        yield lambda metrics: mlflow.log_metrics(_numbers(metrics), step=metrics["epoch"])


@contextmanager
def wandb(folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Log to a run named like the cell, with its settings as configuration."""
    import wandb

    with wandb.init(name=folder.name, dir=str(folder), config=dict(settings)) as run:
        yield lambda metrics: run.log(_numbers(metrics), step=metrics["epoch"])


LOGGERS: Mapping[str, Logger] = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}
_LIBRARIES = {"tensorboard": "torch.utils.tensorboard"}


def logger_of(name: str) -> Logger:
    """Return the logger `name`; raises `ConfigError` for an unknown name."""
    logger: Logger = LOGGERS[name] if name in LOGGERS else plugins.required("logger", name).thing
    return logger


def check_loggers(names: Iterable[str]) -> None:
    """Raise `ConfigError` for an unknown logger, and `MissingExtra` if its library is not installed."""
    for name in names:
        logger_of(name)
        try:
            import_module(_LIBRARIES.get(name, name if name in LOGGERS else "unheard"))
        except ImportError:
            raise MissingExtra(name, name) from None
