"""Use a trained model: recordings, streams and microphones to emotions, without PyTorch.

    audio -> windows -> features -> ONNX graph -> prediction, timeline

`load` is the entry point.
"""

from unheard.recogniser.model import OnnxModel
from unheard.recogniser.prediction import Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.recogniser import Recogniser, load
from unheard.recogniser.stream import Stream
from unheard.recogniser.windows import WindowSettings

__all__ = ["OnnxModel", "Prediction", "Recogniser", "Segment", "SpeakerProfile", "Stream", "WindowSettings", "load"]
