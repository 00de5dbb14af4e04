"""Several views of an image, tiles or input sizes, and how their detections merge."""
