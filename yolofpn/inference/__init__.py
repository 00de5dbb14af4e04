"""Inference: sources, predictor, results."""
