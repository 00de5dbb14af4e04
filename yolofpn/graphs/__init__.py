"""Graphs outside PyTorch: run by OpenVINO or ONNX Runtime, with everything about the detector in their own file."""
