"""WavLM, HuBERT, wav2vec 2.0 and data2vec-audio encoders, run by PyTorch and Hugging Face transformers.

    samples (N,) at 16 kHz -> convolutions, a frame of 25 ms every 20 ms -> transformer layers -> states (T, D)

torch and transformers are imported when the encoder is loaded; weights are read only from safetensors.
"""

import json
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.errors import AudioError, ConfigError, FeatureError, needs
from unheard.features.encoder import chosen_layers, files_digest
from unheard.features.whisper import Floats, weight_files

_FRAME, _SHIFT = 400, 320
_AT_ONCE = 3000  # frames, a minute: the memory of attention grows with their square
_UNUSED = "masked_spec_embed"  # used only in pretraining, and missing in some files
_SUPPORTED = "WavLM, HuBERT, wav2vec 2.0 or data2vec-audio encoder."


class WaveformEncoder:
    """A waveform encoder in a folder written by `save_pretrained`; `layer` as in `open_encoder`."""

    def __init__(self, folder: Path, config: Mapping[str, Any], layer: str) -> None:
        files = weight_files(folder)
        try:
            self.width, count = int(config["hidden_size"]), int(config["num_hidden_layers"])
            kernels, strides = ([int(n) for n in config[name]] for name in ("conv_kernel", "conv_stride"))
        except (KeyError, TypeError, ValueError):
            count, kernels, strides = 0, [], []
        reach = 1 + sum((kernel - 1) * prod(strides[:index]) for index, kernel in enumerate(kernels))
        if (reach, prod(strides)) != (_FRAME, _SHIFT):
            what = f"'{config.get('model_type', '')}' is not an encoder of speech with a frame every 20 ms"
            raise ConfigError(what, where=folder, mend=f"Name a Whisper, {_SUPPORTED}")
        self.folder = folder
        self.chosen, self.average = chosen_layers(layer, count, folder)
        self.layers = 1 if self.average else len(self.chosen)
        preprocessor = folder / "preprocessor_config.json"
        self.digest = files_digest([folder / "config.json", preprocessor, *files])
        try:  # whether the input is scaled to mean 0 and variance 1, the extractor's default
            self._normalise = bool(json.loads(preprocessor.read_text("utf-8")).get("do_normalize", True))
        except (OSError, ValueError, AttributeError):
            self._normalise = True

    def load(self) -> None:
        """Load the weights; raises `MissingExtra` without transformers, `ConfigError` if it cannot load them."""
        _ = self._model

    def frames(self, samples: npt.NDArray[np.floating[Any]]) -> Floats:
        """Compute the states (T, D) of samples (N,), T = 1 + (N - 400) // 320, a minute at a time.

        Raises `AudioError` below 25 ms. On one machine, results are bit-identical for any number of processes.
        """
        if len(samples) < _FRAME:
            raise AudioError(f"too short: {len(samples) / 16:.1f} ms, less than 25", mend="Use a longer recording.")
        model = self._model
        import torch

        if self._normalise:
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        frames = 1 + (len(samples) - _FRAME) // _SHIFT
        pieces = []
        with torch.inference_mode(), ExitStack() as restored:
            restored.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)  # sums depend on the number of threads
            for first in range(0, frames, _AT_ONCE):
                last = first + _AT_ONCE
                # the last piece includes samples beyond the last frame: some encoders normalise over time
                end = (last - 1) * _SHIFT + _FRAME if last < frames else len(samples)
                piece = np.ascontiguousarray(samples[first * _SHIFT : end], np.float32)
                states = model(torch.from_numpy(piece)[None], output_hidden_states=True).hidden_states
                chosen = [states[layer] for layer in self.chosen]
                joined = torch.stack(chosen).mean(0) if self.average else torch.cat(chosen, 2)
                pieces.append(joined[0].float().numpy())
        result: Floats = np.concatenate(pieces)
        expected = frames, self.layers * self.width
        if result.shape != expected:
            what = "the encoder returned {} frames of {} numbers, not {} of {}".format(*result.shape, *expected)
            raise FeatureError(what, where=self.folder, mend=f"Use a {_SUPPORTED}")
        return result

    @cached_property
    def _model(self) -> Any:
        with needs("transformers", "transformers"):
            transformers = import_module("transformers")
        logging = transformers.utils.logging
        safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
        try:
            with warnings.catch_warnings(), ExitStack() as restored:
                warnings.simplefilter("ignore")
                restored.callback(logging.set_verbosity, logging.get_verbosity())
                logging.set_verbosity_error()
                if logging.is_progress_bar_enabled():
                    restored.callback(logging.enable_progress_bar)
                    logging.disable_progress_bar()
                model, report = transformers.AutoModel.from_pretrained(self.folder, output_loading_info=True, **safe)
        except Exception as error:  # transformers raises many kinds of errors for a folder it cannot use
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            mend = "Save it again with save_pretrained, in a version of transformers that supports it."
            what = f"transformers cannot load this encoder ({why})"
            raise ConfigError(what, where=self.folder, mend=mend) from error
        missing = sorted(name for name in report["missing_keys"] if not name.endswith(_UNUSED))
        if missing:  # transformers would initialise them at random
            what = f"{len(missing)} weights of this encoder are missing, such as {missing[0]}"
            raise ConfigError(what, where=self.folder, mend="Download it again.")
        return model.eval().float()
