from __future__ import annotations

from yolofpn.runtimes.newest import KEPT_SIZES, NewestSizes


def test_sizes_asked_for_last_are_kept_and_others_made_anew() -> None:
    made: list[tuple[int, int]] = []

    def make(size: tuple[int, int]) -> int:
        made.append(size)
        return len(made)

    sizes = NewestSizes(make)
    asked = [(32, 32 * number) for number in range(1, KEPT_SIZES + 1)]
    assert [sizes[each] for each in asked] == list(range(1, KEPT_SIZES + 1))
    assert sizes[asked[0]] == 1  # now the newest
    extra = (64, 64)
    assert sizes[extra] == KEPT_SIZES + 1
    assert sizes[asked[0]] == 1 and made == [*asked, extra]
    assert sizes[asked[1]] == KEPT_SIZES + 2  # was the oldest
