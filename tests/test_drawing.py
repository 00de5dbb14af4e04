import shutil
import sys
import types
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yolofpn import drawing
from yolofpn.drawing import class_colour, draw_boxes, show_image, text_colour
from yolofpn.errors import UserError
from yolofpn.structures import Detections, Image

NAMES = ("person", "Hündchen", "犬", "a very long name of a class that is wider than any small image")


def gray(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def found(*boxes: tuple[float, float, float, float], labels: tuple[int, ...] | None = None) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes).reshape(-1, 4), torch.full((count,), 0.5), torch.tensor(labels or (0,) * count), NAMES
    )


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom (exclusive) of the true pixels."""
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def contains(image: Image, part: Image) -> bool:
    _, _, (left, top), _ = cv2.minMaxLoc(cv2.matchTemplate(image, np.array(part), cv2.TM_SQDIFF))
    return bool((image[top : top + part.shape[0], left : left + part.shape[1]] == part).all())


def test_the_line_runs_along_the_inside_of_the_box() -> None:
    drawn = found((20, 30, 60, 80)).draw(gray(100, 100), labels="none")
    line = (drawn == class_colour(0)).all(axis=2)
    assert bounds(line) == (20, 30, 60, 80)
    assert line.sum() == 2 * 40 + 2 * 50 - 4  # one pixel wide
    assert (drawn[~line] == 128).all()


def test_the_image_that_is_given_stays_as_it_is() -> None:
    image = gray(100, 100)
    image.setflags(write=False)
    drawn = found((20, 30, 60, 80)).draw(image[:, ::-1])
    assert (image == 128).all()
    assert (drawn != 128).any()


def test_nothing_found_gives_an_equal_image() -> None:
    assert (Detections.empty().draw(gray(5, 5)) == gray(5, 5)).all()


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 40, 40),
        (0, 0, 400, 300),
        (390, 0, 400, 10),
        (390, 290, 400, 300),
        (0, 290, 3, 300),
        (200, 150, 201, 151),
        (400, 300, 400, 300),
        (-50, -50, 900, 900),
    ],
)
def test_the_whole_text_stays_within_the_image(box: tuple[float, float, float, float]) -> None:
    """The same tag, pixel for pixel, is found somewhere in the image, wherever the box lies."""
    drawn = found(box).draw(gray(300, 400))
    tag = drawing._tag("person 0.50", drawing._sizes(300, 400)[1], class_colour(0))
    assert contains(drawn, tag)


def test_a_text_stands_above_its_box_and_inside_where_there_is_no_room_above() -> None:
    tag_height = drawing._tag("person 0.50", drawing._sizes(300, 400)[1], class_colour(0)).shape[0]
    above = (found((50, 100, 350, 200)).draw(gray(300, 400)) != 128).any(axis=2)
    assert bounds(above)[1] == 100 - tag_height
    inside = (found((50, 2, 350, 200)).draw(gray(300, 400)) != 128).any(axis=2)
    assert bounds(inside)[1] == 2


def test_texts_of_boxes_that_share_a_corner_do_not_cover_each_other() -> None:
    drawn = found((50, 100, 350, 200), (50, 100, 300, 250), labels=(0, 1)).draw(gray(300, 400))
    for text, label in (("person 0.50", 0), ("Hündchen 0.50", 1)):
        tag = drawing._tag(text, drawing._sizes(300, 400)[1], class_colour(label))
        assert contains(drawn, tag)


def test_the_best_detection_lies_on_top() -> None:
    drawn = found((20, 30, 60, 80), (20, 30, 60, 80), labels=(0, 1)).draw(gray(100, 100), labels="none")
    assert tuple(drawn[30, 40]) == class_colour(0)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (10, 2000), (2000, 10), (16, 16)])
def test_every_size_of_image_can_be_drawn_on(size: tuple[int, int]) -> None:
    height, width = size
    boxes = found((0, 0, width, height), (0, 0, 0, 0), (width / 2, height / 2, width, height), labels=(3, 2, 1))
    drawn = boxes.draw(gray(height, width))
    assert drawn.shape == (height, width, 3)
    assert (drawn != 128).any()


def test_lines_and_letters_grow_with_the_image() -> None:
    assert drawing._sizes(100, 100) == (1, 8)
    small, large = drawing._sizes(480, 640), drawing._sizes(4800, 6400)
    assert large[0] == pytest.approx(10 * small[0], abs=10)
    assert large[1] == pytest.approx(10 * small[1], abs=10)


def test_a_text_wider_than_the_image_becomes_smaller() -> None:
    wide = drawing._fitting_tag("person 0.50", 40, (0, 0, 255), 1000)
    narrow = drawing._fitting_tag("person 0.50", 40, (0, 0, 255), 100)
    assert wide.shape[1] > 100 >= narrow.shape[1]


def test_letters_outside_ascii_are_drawn() -> None:
    """Drawn as themselves: not as nothing, and not all as the same box or question mark."""
    tags = [drawing._tag(letter, 30, (0, 0, 255)) for letter in "ÄßéжΩ?"]
    for i, one in enumerate(tags):
        assert (one != one[0, 0]).any()
        for other in tags[:i]:
            assert one.shape != other.shape or (one != other).any()


@pytest.mark.slow
def test_a_letter_that_the_bundled_font_lacks_is_taken_from_a_font_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib
    from matplotlib.ft2font import FT2Font

    other = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"
    here, there = (set(FT2Font(str(path)).get_charmap()) for path in (drawing.FONT, other))  # what the files list
    # Without those like é, which is drawn as e and its accent where a font lacks it.
    letters = [chr(code) for code in sorted(here ^ there) if unicodedata.category(chr(code)) in ("Ll", "Lo", "So")]
    letters = [letter for letter in letters if not unicodedata.decomposition(letter)][::10]
    for path, has in ((drawing.FONT, here), (other, there)):
        assert [drawing._has(path, letter) for letter in letters] == [ord(letter) in has for letter in letters]
    missing = next(letter for letter in letters if ord(letter) in there)

    damaged = tmp_path / "A.ttf"
    damaged.write_bytes(b"no font")
    shutil.copy(other, tmp_path / "STIX.TTF")
    monkeypatch.setattr(drawing, "FONT_FOLDERS", (str(tmp_path / "missing"), str(tmp_path)))
    drawing._font_with.cache_clear()
    assert drawing._font_path("dog" + missing) == tmp_path / "STIX.TTF"
    assert drawing._font_path("dog") == drawing.FONT
    assert drawing._font_path("\U000e0000") == drawing.FONT  # nobody has it
    drawing._font_with.cache_clear()


def test_labels_choose_what_stands_beside_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []

    def spy(image: Image, boxes: object, labels: object, given: list[str]) -> Image:
        texts.extend(given)
        return image

    monkeypatch.setattr(drawing, "draw_boxes", spy)
    found((0, 0, 9, 9)).draw(gray(9, 9), labels="score")
    found((0, 0, 9, 9)).draw(gray(9, 9), labels="name")
    found((0, 0, 9, 9)).draw(gray(9, 9), labels="none")
    assert texts == ["person 0.50", "person", ""]


def test_boxes_of_plain_arrays() -> None:
    drawn = draw_boxes(gray(100, 100), np.array([[20, 30, 60, 80]]), [5], [""])
    assert tuple(drawn[30, 20]) == class_colour(5)


def test_colours_are_stable_and_far_apart() -> None:
    """In CIELAB, where a distance of 2.3 is just noticeable."""
    assert class_colour(0) == (0, 153, 255)
    colours = [class_colour(label) for label in range(80)]
    lab = cv2.cvtColor(np.array([colours], np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1000 * np.eye(80)
    assert distances[:20, :20].min() > 25
    assert len(set(colours)) == 80
    assert all(distances[label, label + 1] > 60 for label in range(79))


def test_text_colour_is_the_one_of_higher_contrast() -> None:
    """Contrast by WCAG 2, with relative luminances worked out by hand."""
    assert text_colour((255, 255, 255)) == (0, 0, 0)
    assert text_colour((0, 0, 0)) == (255, 255, 255)
    assert text_colour((255, 0, 0)) == (255, 255, 255)  # blue: luminance .0722, 8.6 against white, 2.4 against black
    assert text_colour((0, 255, 0)) == (0, 0, 0)  # green: .7152, 1.4 against white, 15.3 against black
    assert text_colour((0, 0, 255)) == (0, 0, 0)  # red: .2126, 4.0 against white, 5.3 against black


def test_a_notebook_shows_images_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=shown.append))
    image = gray(2, 3)
    image[0, 0] = (1, 2, 3)
    show_image(image)
    (displayed,) = shown
    assert displayed.size == (3, 2)  # type: ignore[attr-defined]
    assert displayed.getpixel((0, 0)) == (3, 2, 1)  # type: ignore[attr-defined]


def test_outside_a_notebook_the_viewer_of_the_system_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    monkeypatch.setenv("DISPLAY", ":0")

    def viewer(displayed: object) -> bool:
        shown.append(displayed)
        return True

    monkeypatch.setattr("PIL.ImageShow.show", viewer)
    show_image(gray(2, 3))
    assert len(shown) == 1


def test_without_a_display_showing_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match=r"no display.*\n.*cv2\.imwrite"):
        show_image(gray(2, 3))
