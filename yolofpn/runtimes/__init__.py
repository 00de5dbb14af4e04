"""What runs the dense part of a detector: PyTorch, OpenVINO or ONNX Runtime, behind one contract."""
