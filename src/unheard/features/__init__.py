"""Features of recordings: Kaldi's MFCC or log-mel bands with deltas and optional pitch, unvoiced frames dropped.

    audio -> MFCC (T, 13) -> deltas (T, 39) -> pitch (T, 42) -> voiced frames only

`extract` computes them for a recording, `build_store` for a corpus. `functionals.py` computes a vector per utterance.
"""

from unheard.features.analysis import Analysis, analyse, extract
from unheard.features.kaldi import VAD_PRESETS, EnergyVad
from unheard.features.normalise import Normaliser
from unheard.features.settings import FeatureSettings
from unheard.features.store import FeatureStore, build_store

__all__ = [
    "VAD_PRESETS",
    "Analysis",
    "EnergyVad",
    "FeatureSettings",
    "FeatureStore",
    "Normaliser",
    "analyse",
    "build_store",
    "extract",
]
