"""What runs the dense part of a network: PyTorch, OpenVINO or ONNX Runtime, all behind one contract."""
