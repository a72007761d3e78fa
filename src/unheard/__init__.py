"""Speech emotion recognition for voices the model has never heard."""

__version__ = "0.1.0"
