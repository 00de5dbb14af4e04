"""Types that arrays and settings share."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]  # [H, W, 3], BGR
ResizeMode: TypeAlias = Literal["letterbox", "stretch", "shortest-edge"]
