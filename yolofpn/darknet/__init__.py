"""Interoperation with Darknet: its cfg files and its weights."""
