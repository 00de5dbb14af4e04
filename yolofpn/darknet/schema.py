"""Reads each section of a Darknet cfg, with Darknet's defaults.

Three kinds of keys are known: those that are read; those that would change the result in an unsupported way, accepted
only with the value that changes nothing (``only``, ``never``); and those of training, listed by name and ignored.
Darknet overlooks all others, and so do we, with a note, unless they look like a key that is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from yolofpn.darknet.section_options import MAX_INTEGER, Options
from yolofpn.darknet.sections import (
    ACTIVATIONS,
    Activate,
    Activation,
    AvgPool,
    BatchNorm,
    Connected,
    Convolutional,
    Identity,
    ImplicitSection,
    LocalAvgPoolSection,
    MaxPoolSection,
    Net,
    Region,
    ReorgSection,
    RouteSection,
    Sam,
    ScaleChannelsSection,
    Section,
    ShortcutSection,
    Softmax,
    Upsample,
    Yolo,
)

MAX_INPUT_SIZE = 16384  # pixels: far above any real cfg
MAX_MAP_NUMBERS = 2**28  # of one map of one image, 1 GiB: above it a cfg is a mistake or an attack
MAX_CLASSES = 100_000
GREEDY_EXPONENT = 0.6  # of nms_kind=greedynms, and what beta_nms is by default


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
_TRAINING_OF_CONVOLUTIONAL = _keys("angle assisted_excitation dot grad_centr reverse stream wait_stream")
_TRAINING_OF_ROUTE = _keys("stream wait_stream")
_TRAINING_OF_SOFTMAX = _keys("noloss")
_TRAINING_OF_DROPOUT = _keys("dropblock dropblock_size_abs dropblock_size_rel probability")
_TRAINING_OF_COST = _keys("ratio scale type")
_TRAINING_OF_CONTRASTIVE = _keys("classes cls_normalizer contrastive_neg_max max_delta temperature yolo_layer")
_TRAINING_OF_IMPLICIT = _keys("mean std")
_TRAINING_OF_YOLO = _keys(
    """cls_normalizer counters_per_class delta_normalizer dets_for_show dets_for_track embedding_layer
    focal_loss ignore_thresh iou_loss iou_normalizer iou_thresh iou_thresh_kind jitter label_smooth_eps max max_delta
    nms_threshold obj_normalizer objectness_smooth random resize show_details sim_thresh thresh track_ciou_norm
    track_history_size truth_thresh uc_normalizer"""
)
_TRAINING_OF_REGION = _keys(
    """absolute bias_match class_scale coord_scale focal_loss jitter mask_scale max noobject_scale object_scale random
    rescore resize thresh"""
)


def read_net(options: Options) -> tuple[Net, list[str]]:
    """Read input size and channels from [net]; also return unknown keys."""
    size = {key: options.integer(key, 0) for key in ("height", "width")}
    for key, value in size.items():
        if not value:
            raise options.missing(key)
        if value > MAX_INPUT_SIZE:
            raise options.error(f"{key}={value}: must be at most {MAX_INPUT_SIZE}", key)
    channels = options.integer("channels", 3)
    if channels not in (1, 3):
        raise options.error(f"channels={channels} is not supported: images have 3 or, in gray, 1", "channels")
    if channels * size["height"] * size["width"] > MAX_MAP_NUMBERS:
        raise options.error(f"{size['width']} x {size['height']} is more than 1 GiB: lower width and height", "width")
    options.only(1, "time_steps")
    if options.text("inputs") not in (None, str(channels * size["height"] * size["width"])):
        raise options.error(f"inputs={options.text('inputs')} is not channels x height x width", "inputs")
    letter_box = None if options.text("letter_box") is None else options.flag("letter_box")
    return Net(size["height"], size["width"], letter_box, channels), options.finish(_TRAINING_OF_NET)


def read_section(kind: str, options: Options) -> tuple[Section, list[str]]:
    """Read the section of a layer, and return unknown keys; ``kind`` is one of ``SECTIONS``."""
    read, ignored = SECTIONS[kind]
    section = read(options)
    options.only(0, "dontload", "dontloadscales", "dontsave", "numload")
    return section, options.finish(ignored | _TRAINING_OF_ANY_LAYER)


_SAME_ACTIVATION = {"silu": "swish"}  # PyTorch's name of it, which exporters write


def _activation(options: Options, default: Activation) -> Activation:
    name = options.choice("activation", default, (*ACTIVATIONS, *_SAME_ACTIVATION))
    return cast(Activation, _SAME_ACTIVATION.get(name, name))


def _stride(options: Options, default: int) -> int:
    stride = options.integer("stride", default)
    across, down = options.integer("stride_x", stride), options.integer("stride_y", stride)
    if across != down:
        raise options.error(f"stride_x={across} and stride_y={down} differ: not supported", "stride_x")
    return across


def _convolutional(options: Options) -> Convolutional:
    size = options.integer("size", 1)
    padding = options.integer("padding", 0, minimum=0)
    dilation = options.integer("dilation", 1) if size > 1 else 1
    if options.integer("pad", 0, minimum=-MAX_INTEGER):
        padding = size // 2
    if dilation > 1 and (size % 2 == 0 or padding != size // 2):
        raise options.error(f"dilation={dilation} is supported with pad=1 and an odd size only", "dilation")
    options.only(0, "antialiasing", "binary", "bin_output", "cbn", "coordconv", "flipped")
    options.only(0, "rotate", "stretch", "stretch_sway", "sway", "xnor")
    options.never("share_index")
    return Convolutional(
        filters=options.integer("filters", 1),
        size=size,
        stride=_stride(options, 1),
        padding=padding,
        groups=options.integer("groups", 1),
        batch_normalize=options.flag("batch_normalize"),
        activation=_activation(options, "logistic"),
        dilation=dilation,
    )


def _connected(options: Options) -> Connected:
    options.only(0, "flipped")
    return Connected(
        output=options.integer("output", 1),
        batch_normalize=options.flag("batch_normalize"),
        activation=_activation(options, "logistic"),
    )


def _shortcut(options: Options) -> ShortcutSection:
    options.only(1, "alpha", "beta")
    weighted = options.choice("weights_type", "none", ("none", "per_feature", "per_layer", "per_channel"))
    normalization = options.choice("weights_normalization", "none", ("none", "relu", "avg_relu", "softmax"))
    return ShortcutSection(
        _layers(options, "from"),
        _activation(options, "linear"),
        cast(Any, {"per_layer": "per_feature"}.get(weighted, weighted)),
        cast(Any, {"avg_relu": "relu"}.get(normalization, normalization)),
    )


def _route(options: Options) -> RouteSection:
    groups = options.integer("groups", 1)
    group_id = options.integer("group_id", 0, minimum=0)
    if group_id >= groups:
        raise options.error(f"group_id={group_id} must be below groups={groups}", "group_id")
    return RouteSection(_layers(options, "layers"), groups, group_id)


def _layers(options: Options, key: str) -> tuple[int, ...]:
    layers = options.integers(key)
    if not layers:
        raise options.missing(key)
    return layers


def _scale_channels(options: Options) -> ScaleChannelsSection:
    per_pixel = options.flag("scale_wh")
    return ScaleChannelsSection(_one_layer(options), _activation(options, "linear"), per_pixel)


def _sam(options: Options) -> Sam:
    return Sam(_one_layer(options), _activation(options, "linear"))


def _one_layer(options: Options) -> int:
    layers = _layers(options, "from")
    if len(layers) > 1:
        raise options.error("from= must name one layer", "from")
    return layers[0]


def _upsample(options: Options) -> Upsample:
    options.only(1, "scale")
    return Upsample(options.integer("stride", 2))


def _window(options: Options) -> tuple[int, int, int]:
    """Read size, stride and padding of a pooling layer."""
    stride = _stride(options, 1)
    size = options.integer("size", stride)
    padding = options.integer("padding", size - 1, minimum=0)
    if padding >= size:
        raise options.error(f"padding={padding} must be below size={size}", "padding")
    return size, stride, padding


def _local_avgpool(options: Options) -> LocalAvgPoolSection:
    return LocalAvgPoolSection(*_window(options))


def _maxpool(options: Options) -> MaxPoolSection:
    options.only(0, "antialiasing", "maxpool_depth", "maxpool_zero_nonmax")
    options.only(1, "out_channels")
    return MaxPoolSection(*_window(options))


def _avgpool(options: Options) -> AvgPool:
    return AvgPool()


def _reorg(options: Options) -> ReorgSection:
    options.only(0, "extra", "flatten", "reverse")
    return ReorgSection(options.integer("stride", 1))


def _reorg3d(options: Options) -> ReorgSection:
    options.only(0, "reverse")
    return ReorgSection(options.integer("stride", 1), usual=True)


def _batchnorm(options: Options) -> BatchNorm:
    return BatchNorm()


def _activate(options: Options) -> Activate:
    return Activate(_activation(options, "linear"))


def _implicit(options: Options) -> ImplicitSection:
    return ImplicitSection(options.integer("filters", 128), options.integer("atoms", 1))


def _softmax(options: Options) -> Softmax:
    options.only(1, "groups", "temperature")
    options.only(0, "spatial")
    options.never("tree")
    return Softmax()


def _identity(options: Options) -> Identity:
    return Identity()


def _yolo(options: Options) -> Yolo:
    return _yolo_of(options, gaussian=False)


def _gaussian_yolo(options: Options) -> Yolo:
    options.choice("yolo_point", "center", ("center",))
    return _yolo_of(options, gaussian=True)


def _yolo_of(options: Options, *, gaussian: bool) -> Yolo:
    anchors = _anchors(options)
    # A mask may name anchors beyond num=, for which Darknet reads memory that is not theirs, and OpenCV the list.
    mask = options.integers("mask") or tuple(range(options.integer("num", 1)))
    for index in mask:
        if not 0 <= index < len(anchors):
            raise options.error(f"mask={options.text('mask')}: there is no anchor {index} of {len(anchors)}", "mask")
    options.never("map")
    return Yolo(
        options.integer("classes", 20, maximum=MAX_CLASSES),
        tuple(anchors[index] for index in mask),
        options.number("scale_x_y", 1.0),
        new_coords=not gaussian and options.flag("new_coords"),
        gaussian=gaussian,
        nms_exponent=_nms_exponent(options),
    )


def _nms_exponent(options: Options) -> float | None:
    """Return the exponent of the distance term of NMS; None if nms_kind is missing or unknown: plain IoU."""
    beta = options.number("beta_nms", GREEDY_EXPONENT)
    match options.text("nms_kind"):
        case "greedynms":
            return GREEDY_EXPONENT  # whatever beta_nms says
        case "diounms":
            return beta
        case _:
            return None


def _region(options: Options) -> Region:
    options.only(4, "coords")
    options.only(0, "background", "classfix", "log", "sqrt")
    options.never("map", "tree")
    anchors = _anchors(options)[: options.integer("num", 1)]
    return Region(options.integer("classes", 20, maximum=MAX_CLASSES), anchors, options.flag("softmax"))


def _anchors(options: Options) -> tuple[tuple[float, float], ...]:
    values = options.numbers("anchors")
    count = options.integer("num", 1)
    if len(values) < 2 * count:
        raise options.error(f"anchors= holds {len(values)} numbers, num={count} needs {2 * count}", "anchors")
    values = values[: len(values) // 2 * 2]
    if min(values) <= 0:
        raise options.error("anchors= must be positive", "anchors")
    return tuple(zip(values[::2], values[1::2], strict=True))


SECTIONS: dict[str, tuple[Callable[[Options], Section], frozenset[str]]] = {
    "convolutional": (_convolutional, _TRAINING_OF_CONVOLUTIONAL),
    "connected": (_connected, frozenset()),
    "shortcut": (_shortcut, frozenset()),
    "route": (_route, _TRAINING_OF_ROUTE),
    "scale_channels": (_scale_channels, frozenset()),
    "sam": (_sam, frozenset()),
    "implicit": (_implicit, _TRAINING_OF_IMPLICIT),
    "batchnorm": (_batchnorm, frozenset()),
    "activation": (_activate, frozenset()),
    "local_avgpool": (_local_avgpool, frozenset()),
    "reorg3d": (_reorg3d, frozenset()),
    "empty": (_identity, frozenset()),
    "contrastive": (_identity, _TRAINING_OF_CONTRASTIVE),
    "Gaussian_yolo": (_gaussian_yolo, _TRAINING_OF_YOLO),
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
