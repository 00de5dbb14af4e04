"""Evaluation of detectors: COCO and VOC metrics, counts, plots."""
