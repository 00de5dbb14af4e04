"""Trackers follow objects from frame to frame, one file each.

A new one is a class as ``yolofpn.tracking.tracker.Tracker`` describes it, and a line in ``TRACKERS``;
docs/extending.md has an example. These files import nothing heavy at their top, because ``detect.py --help`` lists
them.
"""

from __future__ import annotations

from yolofpn.tracking.bytetrack import ByteTrack
from yolofpn.tracking.cbiou import CBIoU
from yolofpn.tracking.ocsort import OCSORT
from yolofpn.tracking.tracker import Tracker

TRACKERS: tuple[type[Tracker], ...] = (ByteTrack, CBIoU, OCSORT)
"""The first one is the default."""
