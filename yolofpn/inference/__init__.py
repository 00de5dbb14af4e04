"""From sources to detections to files."""
