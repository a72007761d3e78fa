"""From a trained model to a file that needs no PyTorch: the ONNX graph, its calibration, its card."""
