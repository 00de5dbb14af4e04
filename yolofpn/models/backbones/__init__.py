"""Backbones: image -> {c2..c5}."""
