"""How each section of a Darknet cfg is read, with Darknet's own defaults.

Three kinds of keys are known: those that are read; those that would change the result in an unsupported way, accepted
only with the value that changes nothing (``only``, ``never``); and those of training, listed by name and ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from yolofpn.darknet.options import Options
from yolofpn.darknet.sections import (
    ACTIVATIONS,
    Activation,
    AvgPool,
    Connected,
    Convolutional,
    Identity,
    MaxPool,
    Net,
    Region,
    Reorg,
    Route,
    ScaleChannels,
    Section,
    Shortcut,
    Softmax,
    Upsample,
    Yolo,
)

MAX_INPUT_SIZE = 16384  # pixels: far above any real cfg, low enough that a wrong digit does not fill the memory


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TRAINING_OF_NET = _keys(
    """adam adversarial_lr angle aspect attention augment_speed B1 B2 badlabels_rejection_percentage batch blur burn_in
    center clip contrastive contrastive_color contrastive_jit_flip cutmix decay dynamic_minibatch ema_alpha eps
    equidistant_point exposure flip gamma gaussian_noise hue label_smooth_eps learning_rate learning_rate_min
    loss_scale max_batches max_chart_loss max_crop max_ratio min_crop min_ratio mixup momentum mosaic mosaic_bound
    notruth num_sigmas_reject_badlabels optimized_memory policy power random resize_step saturation scale scales
    seq_scales sequential_subdivisions sgdr_cycle sgdr_mult show_receptive_field step steps subdivisions track
    try_fix_nan unsupervised use_cuda_graph weights_reject_freq workspace_size_limit_MB"""
)
_TRAINING_OF_ANY_LAYER = _keys(
    """burnin_update clip dont_update learning_rate onlyforward smooth stopbackward train_only_bn truth"""
)
_TRAINING_OF_CONVOLUTIONAL = _keys("angle dot grad_centr reverse stream wait_stream")
_TRAINING_OF_ROUTE = _keys("stream wait_stream")
_TRAINING_OF_SOFTMAX = _keys("noloss")
_TRAINING_OF_DROPOUT = _keys("dropblock dropblock_size_abs dropblock_size_rel probability")
_TRAINING_OF_COST = _keys("ratio scale type")
_TRAINING_OF_YOLO = _keys(
    """beta_nms cls_normalizer counters_per_class delta_normalizer dets_for_show dets_for_track embedding_layer
    focal_loss ignore_thresh iou_loss iou_normalizer iou_thresh iou_thresh_kind jitter label_smooth_eps max max_delta
    nms_threshold obj_normalizer objectness_smooth random resize show_details sim_thresh thresh track_ciou_norm
    track_history_size truth_thresh"""
)
_TRAINING_OF_REGION = _keys(
    """absolute bias_match class_scale coord_scale focal_loss jitter mask_scale max noobject_scale object_scale random
    rescore resize thresh"""
)


def read_net(options: Options) -> Net:
    """[net]: the input's size; the rest is training."""
    size = {key: options.integer(key, 0) for key in ("height", "width")}
    for key, value in size.items():
        if not value:
            raise options.missing(key)
        if value > MAX_INPUT_SIZE:
            raise options.error(f"{key}={value}: must be at most {MAX_INPUT_SIZE}", key)
    options.only(3, "channels")
    options.only(1, "time_steps")
    if options.text("inputs") not in (None, str(3 * size["height"] * size["width"])):
        raise options.error(f"inputs={options.text('inputs')} is not 3 x height x width", "inputs")
    letter_box = None if options.text("letter_box") is None else options.flag("letter_box")
    options.finish(_TRAINING_OF_NET)
    return Net(size["height"], size["width"], letter_box)


def read_section(kind: str, options: Options) -> Section:
    """A layer's section; ``kind`` is one of ``SECTIONS``."""
    read, ignored = SECTIONS[kind]
    section = read(options)
    options.only(0, "dontload", "dontloadscales", "dontsave", "numload")
    options.finish(ignored | _TRAINING_OF_ANY_LAYER)
    return section


def _activation(options: Options, default: Activation) -> Activation:
    return cast(Activation, options.choice("activation", default, ACTIVATIONS))


def _stride(options: Options, default: int) -> int:
    stride = options.integer("stride", default)
    across, down = options.integer("stride_x", stride), options.integer("stride_y", stride)
    if across != down:
        raise options.error(f"stride_x={across} and stride_y={down} differ: not supported", "stride_x")
    return across


def _convolutional(options: Options) -> Convolutional:
    size = options.integer("size", 1)
    padding = options.integer("padding", 0, minimum=0)
    options.only(1, "dilation")
    options.only(0, "antialiasing", "assisted_excitation", "binary", "bin_output", "cbn", "coordconv", "flipped")
    options.only(0, "rotate", "stretch", "stretch_sway", "sway", "xnor")
    options.never("share_index")
    return Convolutional(
        filters=options.integer("filters", 1),
        size=size,
        stride=_stride(options, 1),
        padding=size // 2 if options.flag("pad") else padding,
        groups=options.integer("groups", 1),
        batch_normalize=options.flag("batch_normalize"),
        activation=_activation(options, "logistic"),
    )


def _connected(options: Options) -> Connected:
    options.only(0, "flipped")
    return Connected(
        output=options.integer("output", 1),
        batch_normalize=options.flag("batch_normalize"),
        activation=_activation(options, "logistic"),
    )


def _shortcut(options: Options) -> Shortcut:
    options.only(1, "alpha", "beta")
    options.choice("weights_type", "none", ("none",))
    options.choice("weights_normalization", "none", ("none",))
    return Shortcut(_layers(options, "from"), _activation(options, "linear"))


def _route(options: Options) -> Route:
    groups = options.integer("groups", 1)
    group_id = options.integer("group_id", 0, minimum=0)
    if group_id >= groups:
        raise options.error(f"group_id={group_id} must be below groups={groups}", "group_id")
    return Route(_layers(options, "layers"), groups, group_id)


def _layers(options: Options, key: str) -> tuple[int, ...]:
    layers = options.integers(key)
    if not layers:
        raise options.missing(key)
    return layers


def _scale_channels(options: Options) -> ScaleChannels:
    options.only(0, "scale_wh")
    layers = _layers(options, "from")
    if len(layers) > 1:
        raise options.error("from= must name one layer", "from")
    return ScaleChannels(layers[0], _activation(options, "linear"))


def _upsample(options: Options) -> Upsample:
    options.only(1, "scale")
    return Upsample(options.integer("stride", 2))


def _maxpool(options: Options) -> MaxPool:
    stride = _stride(options, 1)
    size = options.integer("size", stride)
    padding = options.integer("padding", size - 1, minimum=0)
    if padding >= size:
        raise options.error(f"padding={padding} must be below size={size}", "padding")
    options.only(0, "antialiasing", "maxpool_depth", "maxpool_zero_nonmax")
    options.only(1, "out_channels")
    return MaxPool(size, stride, padding)


def _avgpool(options: Options) -> AvgPool:
    return AvgPool()


def _reorg(options: Options) -> Reorg:
    options.only(0, "extra", "flatten", "reverse")
    return Reorg(options.integer("stride", 1))


def _softmax(options: Options) -> Softmax:
    options.only(1, "groups", "temperature")
    options.only(0, "spatial")
    options.never("tree")
    return Softmax()


def _identity(options: Options) -> Identity:
    return Identity()


def _yolo(options: Options) -> Yolo:
    anchors = _anchors(options)
    mask = options.integers("mask") or tuple(range(len(anchors)))
    for index in mask:
        if not 0 <= index < len(anchors):
            raise options.error(f"mask={options.text('mask')}: there is no anchor {index} of {len(anchors)}", "mask")
    # Greedy NMS is what Darknet does by default; the other kinds suppress other boxes.
    options.choice("nms_kind", "default", ("default", "greedynms"))
    options.only(0, "new_coords")
    options.never("map")
    scale_x_y = options.number("scale_x_y", 1.0)
    return Yolo(options.integer("classes", 20), tuple(anchors[index] for index in mask), scale_x_y)


def _region(options: Options) -> Region:
    options.only(4, "coords")
    options.only(0, "background", "classfix", "log", "sqrt")
    options.never("map", "tree")
    return Region(options.integer("classes", 20), _anchors(options), options.flag("softmax"))


def _anchors(options: Options) -> tuple[tuple[float, float], ...]:
    values = options.numbers("anchors")
    count = options.integer("num", 1)
    if len(values) != 2 * count:
        raise options.error(f"anchors= holds {len(values)} numbers, num={count} needs {2 * count}", "anchors")
    if min(values) <= 0:
        raise options.error("anchors= must be positive", "anchors")
    return tuple(zip(values[::2], values[1::2], strict=True))


SECTIONS: dict[str, tuple[Callable[[Options], Section], frozenset[str]]] = {
    "convolutional": (_convolutional, _TRAINING_OF_CONVOLUTIONAL),
    "connected": (_connected, frozenset()),
    "shortcut": (_shortcut, frozenset()),
    "route": (_route, _TRAINING_OF_ROUTE),
    "scale_channels": (_scale_channels, frozenset()),
    "upsample": (_upsample, frozenset()),
    "maxpool": (_maxpool, frozenset()),
    "avgpool": (_avgpool, frozenset()),
    "reorg": (_reorg, frozenset()),
    "softmax": (_softmax, _TRAINING_OF_SOFTMAX),
    "dropout": (_identity, _TRAINING_OF_DROPOUT),
    "cost": (_identity, _TRAINING_OF_COST),
    "yolo": (_yolo, _TRAINING_OF_YOLO),
    "region": (_region, _TRAINING_OF_REGION),
}
