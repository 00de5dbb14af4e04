import pytest

from yolofpn.levels import built_levels


@pytest.mark.parametrize(
    ("levels", "top_down", "lateral", "built"),
    [
        ([3, 4, 5], True, True, [3, 4, 5]),
        ([2], True, True, [2, 3, 4, 5]),
        ([3, 5], True, False, [3, 4, 5]),
        ([3, 4], False, True, [3, 4]),
        ([4], False, True, [4]),
        ([5], False, True, [5]),
    ],
)
def test_the_way_down_needs_every_level_from_c5(
    levels: list[int], top_down: bool, lateral: bool, built: list[int]
) -> None:
    assert built_levels(levels, top_down=top_down, lateral=lateral) == built
    assert built_levels(tuple(levels), top_down=top_down, lateral=lateral) == built


@pytest.mark.parametrize(
    ("levels", "top_down", "lateral", "said"),
    [
        ([], True, True, r"levels \[\] must be ascending"),
        ([4, 3], True, True, "must be ascending"),
        ([3, 3], True, True, "without repetition"),
        ([1, 2], True, True, "within 2 to 5"),
        ([5, 6], True, True, "within 2 to 5"),
        ([3, 4], False, False, "without input"),
        ([5], False, False, "without input"),
        ([5], True, False, "changes nothing"),
        ([5], True, True, "nowhere to go"),
    ],
)
def test_contradictions(levels: list[int], top_down: bool, lateral: bool, said: str) -> None:
    for given in (levels, tuple(levels)):
        with pytest.raises(ValueError, match=said):
            built_levels(given, top_down=top_down, lateral=lateral)
