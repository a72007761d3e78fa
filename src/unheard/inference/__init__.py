"""A trained model in use: recordings, streams and microphones to emotions. Nothing here loads torch.

    audio -> windows -> features -> ONNX graph -> prediction, timeline

`load` is the way in.
"""

from unheard.inference.model import OnnxModel
from unheard.inference.prediction import Prediction, Segment
from unheard.inference.recogniser import Recogniser, load
from unheard.inference.stream import Stream
from unheard.inference.voices import Voice
from unheard.inference.windows import WindowSettings

__all__ = ["OnnxModel", "Prediction", "Recogniser", "Segment", "Stream", "Voice", "WindowSettings", "load"]
