"""A small config file for tests."""

from __future__ import annotations

from pathlib import Path

MODEL = """
model:
  backbone: {type: darknet, width: 0.125, depth: 0.1}
  neck: {type: concat, levels: [4, 5]}
  head:
    type: yolo
    anchors:
      - [[10, 14], [23, 27]]
      - [[81, 82], [135, 169]]
"""


def write_config(folder: Path, text: str = MODEL) -> Path:
    path = folder / "model.yaml"
    path.write_text(text, encoding="utf-8")
    return path
