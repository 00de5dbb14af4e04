"""OpenCV, imported when something of it is first used: ``from yolofpn.opencv import cv2``.

Its library takes 27 MiB, which programs without images do not need, and others not before a graph is open: opening
one takes more memory than anything later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import cv2 as cv2
else:

    class _OpenCV:
        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            import cv2

            return getattr(cv2, name)

    cv2 = _OpenCV()
