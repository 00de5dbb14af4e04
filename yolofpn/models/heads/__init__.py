"""The YOLO head, its box coder, assigner and loss."""
