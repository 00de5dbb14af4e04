"""The Faster R-CNN family on the neck of the one-stage detector."""
