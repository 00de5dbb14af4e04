"""Both fusions: what comes out, and what it depends on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from yolofpn.models.necks.fpn import AddFPN, ConcatFPN
from yolofpn.structures import FeatureInfo

INFO = {f"c{k}": FeatureInfo(8 * 2 ** (k - 2), 2**k) for k in (2, 3, 4, 5)}  # 8, 16, 32, 64 channels
Neck: TypeAlias = ConcatFPN | AddFPN
Build: TypeAlias = Callable[..., Neck]

LEVELS = [tuple(c) for n in (1, 2, 3, 4) for c in itertools.combinations((2, 3, 4, 5), n)]
SWITCHES = [{"top_down": t, "lateral": la} for t in (True, False) for la in (True, False)]


def concat(levels: Sequence[int] = (3, 4, 5), **options: Any) -> Neck:
    return ConcatFPN(INFO, levels, **options)


def add(levels: Sequence[int] = (3, 4, 5), **options: Any) -> Neck:
    return AddFPN(INFO, levels, 12, **options)


both = pytest.mark.parametrize("build", [concat, add])
LEGAL = [
    (levels, switches)
    for levels, switches in itertools.product(LEVELS, SWITCHES)
    if (switches["top_down"] or switches["lateral"]) and not (levels == (5,) and switches != SWITCHES[2])
]


def features(height: int = 64, width: int = 96, batch: int = 2) -> dict[str, Tensor]:
    """Random maps as of an input of that size, sizes rounded up; they want gradients."""
    torch.manual_seed(0)
    return {
        name: torch.randn(batch, info.channels, -(-height // info.stride), -(-width // info.stride), requires_grad=True)
        for name, info in INFO.items()
    }


def depends_on(output: Tensor, maps: dict[str, Tensor]) -> set[str]:
    gradients = torch.autograd.grad(output.sum(), list(maps.values()), retain_graph=True, allow_unused=True)
    return {name for name, g in zip(maps, gradients, strict=True) if g is not None and bool(g.any())}


@both
@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(64, 96), (340 * 4, 43 * 32 - 20), (36, 100)], ids=str)
def test_maps_have_the_sizes_of_the_backbones(build: Build, upsample: str, size: tuple[int, int]) -> None:
    maps = features(*size, batch=1)
    neck = build((2, 3, 4, 5), upsample=upsample).eval()
    with torch.no_grad():
        pyramid = neck(maps)
    assert list(pyramid) == list(neck.feature_info) == ["p2", "p3", "p4", "p5"]
    for name, info in neck.feature_info.items():
        assert pyramid[name].shape == (1, info.channels, *maps["c" + name[1]].shape[2:])
        assert info.stride == 2 ** int(name[1])


def test_odd_maps_are_met_by_the_add_fusion() -> None:
    maps = {f"c{k}": torch.rand(1, INFO[f"c{k}"].channels, s, s + 3) for k, s in ((2, 340), (3, 170), (4, 84), (5, 43))}
    pyramid = add((2, 3, 4, 5))(maps)
    assert [tuple(p.shape[2:]) for p in pyramid.values()] == [(340, 343), (170, 173), (84, 87), (43, 46)]


@both
@pytest.mark.parametrize(("levels", "switches"), LEGAL, ids=str)
def test_every_legal_combination_gives_its_levels_and_trains_all_it_has(
    build: Build, levels: tuple[int, ...], switches: dict[str, bool]
) -> None:
    neck = build(levels, **switches)
    pyramid = neck(features())
    assert list(pyramid) == [f"p{k}" for k in levels] == list(neck.feature_info)
    for k in levels:
        assert pyramid[f"p{k}"].shape == (2, neck.feature_info[f"p{k}"].channels, 64 // 2**k, 96 // 2**k)
    loss = torch.stack([p.square().mean() for p in pyramid.values()]).sum()
    names, parameters = zip(*neck.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    assert [name for name, g in zip(names, gradients, strict=True) if g is None or not g.any()] == []


@both
@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_what_each_level_sees(build: Build, upsample: str) -> None:
    maps = features()

    def seen(**switches: bool) -> list[set[str]]:
        pyramid = build((3, 4, 5), upsample=upsample, **switches).eval()(maps)
        return [depends_on(pyramid[name], maps) for name in ("p3", "p4", "p5")]

    assert seen() == [{"c3", "c4", "c5"}, {"c4", "c5"}, {"c5"}]
    assert seen(top_down=False) == [{"c3"}, {"c4"}, {"c5"}]
    assert seen(lateral=False) == [{"c5"}, {"c5"}, {"c5"}]


@both
def test_the_finest_level_alone_is_that_of_the_whole_pyramid(build: Build) -> None:
    maps = features()
    alone, whole = build((2,)).eval(), build((2, 3, 4, 5)).eval()
    whole_state = whole.state_dict()
    assert alone.state_dict().keys() <= whole_state.keys()
    alone.load_state_dict({name: whole_state[name] for name in alone.state_dict()})
    assert list(alone(maps)) == ["p2"]
    assert torch.equal(alone(maps)["p2"], whole(maps)["p2"])
    assert depends_on(alone(maps)["p2"], maps) == {"c2", "c3", "c4", "c5"}


@both
def test_three_levels_are_a_strict_part_of_four(build: Build) -> None:
    three, four = build((3, 4, 5)).state_dict(), build((2, 3, 4, 5)).state_dict()
    assert three.keys() < four.keys()
    assert all(three[name].shape == four[name].shape for name in three)
    assert {name.split(".")[0] for name in four.keys() - three.keys()} == {"p2"}


@pytest.mark.slow
def test_the_add_fusion_by_the_papers_words() -> None:
    """1x1 laterals to d channels, upsampled by 2 and added, then 3x3 on each merged map; no activation."""
    maps, neck = features(), add()
    state = neck.state_dict()

    def conv(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    merged5 = conv(maps["c5"], "p5.lateral")
    merged4 = conv(maps["c4"], "p4.lateral") + merged5.repeat_interleave(2, 2).repeat_interleave(2, 3)
    merged3 = conv(maps["c3"], "p3.lateral") + merged4.repeat_interleave(2, 2).repeat_interleave(2, 3)
    pyramid = neck(maps)
    for name, merged in (("p3", merged3), ("p4", merged4), ("p5", merged5)):
        torch.testing.assert_close(pyramid[name], conv(merged, f"{name}.smooth"))


def test_one_smoothing_for_all_levels() -> None:
    """It does to each merged map what the levels' own ones do if these are equal."""
    shared, own = add((2, 3, 4, 5), shared_smooth=True), add((2, 3, 4, 5))
    state = shared.state_dict()
    assert {name for name in state if "smooth" in name} == {"smooth.weight", "smooth.bias"}
    copies = {name: state[name] if name in state else state[name.split(".", 1)[1]] for name in own.state_dict()}
    own.load_state_dict(copies)
    maps = features(52, 100)
    for ours, theirs in zip(shared(maps).values(), own(maps).values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any("smooth" in name for name in add((2,), shared_smooth=True).state_dict() if name.startswith("p"))


def test_the_concat_fusion_puts_the_reduced_coarse_map_first() -> None:
    neck = ConcatFPN(INFO, (4, 5)).eval()
    maps, p4 = features(), neck.get_submodule("p4")
    pyramid = neck(maps)
    torch.testing.assert_close(pyramid["p5"], neck.get_submodule("p5").get_submodule("block")(maps["c5"]))
    reduced = p4.get_submodule("reduce")(pyramid["p5"])
    joined = torch.cat([reduced.repeat_interleave(2, 2).repeat_interleave(2, 3), maps["c4"]], dim=1)
    torch.testing.assert_close(pyramid["p4"], p4.get_submodule("block")(joined))


def test_channels_are_chosen_or_half_of_the_backbones() -> None:
    assert [info.channels for info in ConcatFPN(INFO).feature_info.values()] == [8, 16, 32]
    chosen = ConcatFPN(INFO, (3, 4, 5), (5, 7, 9))
    assert [info.channels for info in chosen.feature_info.values()] == [5, 7, 9]
    assert [tuple(p.shape[1:2]) for p in chosen(features()).values()] == [(5,), (7,), (9,)]
    # With levels (3,) the top-down pathway still builds p4 and p5.
    assert ConcatFPN(INFO, (3,), (5, 7, 9)).feature_info == {"p3": FeatureInfo(5, 8)}
    assert [info.channels for info in AddFPN(INFO, (2, 5), 31).feature_info.values()] == [31, 31]


@both
@pytest.mark.parametrize(
    ("levels", "switches", "said"),
    [
        ((3, 4, 5), {"top_down": False, "lateral": False}, "leave the levels without input"),
        ((5,), {"lateral": False}, "changes nothing"),
        ((5,), {}, "nowhere to go"),
        ((), {}, "must be ascending"),
        ((5, 4, 3), {}, "must be ascending"),
        ((3, 6), {}, "within 2 to 5"),
    ],
)
def test_contradictions_are_refused(
    build: Build, levels: tuple[int, ...], switches: dict[str, bool], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        build(levels, **switches)


def test_channels_of_another_number_of_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 channels for the 3 levels \[3, 4, 5\] that are built"):
        ConcatFPN(INFO, (3,), (8,))
