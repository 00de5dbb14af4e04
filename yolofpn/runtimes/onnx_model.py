"""ONNX models that many programs open: an old opset and IR version, plain operators, fp16 storage, NMS inside.

``model`` is an ``onnx.ModelProto`` throughout, which is changed in place unless a function returns one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from yolofpn.errors import UserError
from yolofpn.version import __version__

if TYPE_CHECKING:
    from yolofpn.structures import Limits

IR_VERSION = 8  # ONNX Runtime 1.16, OpenCV 4, TensorRT 8.6 and Triton of their time read no newer one than 8 or 9
TRACED_OPSET = 18  # the oldest that PyTorch's exporter writes
_SMALL = 1024  # values; a tensor of fewer is not worth storing in fp16
_LEAST_ROW = 16  # values that share a number, which takes 4 bytes
_FLOAT = TensorProto.FLOAT


def make_portable(model: Any, opset: int) -> None:  # noqa: ANN401
    """Bring a model of the exporter into the form that old readers know.

    The exporter asks for the size of a resized map at run time, which OpenCV's importer does not know: it becomes
    constant scales. It also notes where in the source code each node comes from, which is nobody's business.

    Args:
        model: the shapes of its inner maps are in ``value_info``, and leave it.
        opset: version of the operators of the result; the model has the same, or ``TRACED_OPSET`` if that is newer.

    Raises:
        UserError: the network has an operator that this opset lacks.
    """
    _scale_by_constants(model.graph)
    (operators,) = (entry for entry in model.opset_import if not entry.domain)
    if operators.version > opset:
        _lower(model.graph, opset)
        operators.version = opset
    if operators.version != opset:
        raise UserError(f"the network cannot be expressed in ONNX opset {opset}: --opset {operators.version} can")
    _drop_unused(model.graph)
    del model.graph.value_info[:]  # shapes of inner maps with another batch, which readers compute themselves
    del model.graph.metadata_props[:], model.metadata_props[:]
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    model.graph.doc_string = ""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "yolofpn", __version__


def _scale_by_constants(graph: Any) -> None:  # noqa: ANN401
    """Resize by factors instead of to sizes."""
    shapes = {}
    for entry in graph.value_info:
        shapes[entry.name] = [size.dim_value for size in entry.type.tensor_type.shape.dim]
    for node in graph.node:
        if node.op_type == "Resize" and len(node.input) == 4 and node.input[3]:
            before, after = shapes[node.input[0]][2:], shapes[node.output[0]][2:]
            factors = [1.0, 1.0, *(large / small for small, large in zip(before, after, strict=True))]
            _add_constant(graph, f"{node.output[0]}_scales", np.array(factors, np.float32))
            source = node.input[0]
            del node.input[:]
            node.input.extend([source, "", f"{node.output[0]}_scales"])


def _lower(graph: Any, opset: int) -> None:  # noqa: ANN401
    """Write the operators of ``TRACED_OPSET`` as those of an older ``opset``."""
    constants = {each.name: each for each in graph.initializer}
    for node in graph.node:
        operator = node.op_type
        if onnx.defs.get_schema(operator, TRACED_OPSET, node.domain).since_version <= opset:
            continue
        inputs = [name for name in node.input if name]
        if operator.startswith("Reduce") and len(inputs) == 2 and inputs[1] in constants:
            axes = numpy_helper.to_array(constants[inputs[1]]).tolist()
            del node.input[1:]
            node.attribute.append(helper.make_attribute("axes", axes))
        elif operator not in ("Resize", "Pad", "Split") or (operator == "Pad" and len(inputs) == 4):
            raise UserError(f"the network has {operator}, which ONNX opset {opset} lacks: --opset {TRACED_OPSET}")
        known = onnx.defs.get_schema(operator, opset, node.domain).attributes
        for attribute in [each for each in node.attribute if each.name not in known]:
            node.attribute.remove(attribute)  # what newer versions added, at its default


def _drop_unused(graph: Any) -> None:  # noqa: ANN401
    """Remove nodes and constants whose results nothing reads."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    constants = [each for each in graph.initializer if each.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def store_in_half(model: Any, kernels: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:  # noqa: ANN401
    """Store large constants in fp16, from which readers compute the fp32 constants when they load the model.

    A constant whose rows are whole multiples, up to 127, of one number each is stored in int8 with these numbers.

    Args:
        model: with fp32 constants.
        kernels: of constants by name: the values before the batch norm's factors were multiplied into them, and these
            factors, which stay fp32. So kernels that were trained or stored in fp16 stay exactly what they are.
    """
    graph, casts = model.graph, []
    for constant in [each for each in graph.initializer if each.data_type == _FLOAT]:
        values = numpy_helper.to_array(constant)
        if values.ndim < 2 or values.size < _SMALL:
            continue
        name, factors = constant.name, None
        if name in kernels:
            values, factors = kernels[name]
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            continue  # a value is too large for fp16
        graph.initializer.remove(constant)
        numbers, steps = _as_multiples(half)
        scales = [each for each in (steps, factors) if each is not None]
        results = [*(f"{name}_{index}" for index in range(len(scales))), name]
        _add_constant(graph, f"{name}_stored", numbers)
        casts.append(helper.make_node("Cast", [f"{name}_stored"], [results[0]], to=_FLOAT))
        for scale, before, after in zip(scales, results, results[1:], strict=False):
            _add_constant(graph, f"{before}_scale", scale.reshape(-1, *[1] * (values.ndim - 1)))
            casts.append(helper.make_node("Mul", [before, f"{before}_scale"], [after]))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def _as_multiples(half: NDArray[np.float16]) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """``half`` as int8 and the fp32 number [rows] that each row is a multiple of; itself and None if it is not."""
    if half.size < _LEAST_ROW * len(half):
        return half, None
    units = np.ldexp(half.astype(np.float64), 24).astype(np.int64).reshape(len(half), -1)  # of fp16's smallest number
    steps = np.maximum(np.gcd.reduce(units, axis=1), 1)
    multiples = units // steps[:, None]
    if np.abs(multiples).max() > 127:
        return half, None
    return multiples.astype(np.int8).reshape(half.shape), np.ldexp(steps.astype(np.float64), -24).astype(np.float32)


def add_nms(model: Any, limits: Limits, num_classes: int, size: tuple[int, int]) -> None:  # noqa: ANN401
    """Append non-maximum suppression within each class to a model whose only output is [1, 4 + C, N].

    The output becomes [1, K, 6] by descending score: x1, y1, x2, y2 in network pixels, clipped to the input; score;
    label. K is the maximum number of detections; rows that are left over are zeros.

    Args:
        model: of the decoded layout, with batch size 1.
        limits: of the weights: one score threshold or one per class; NMS threshold; K.
        num_classes: C.
        size: (height, width) of the input.
    """
    graph, decoded = model.graph, model.graph.output[0].name
    for name, values in _nms_constants(limits, num_classes, size).items():
        _add_constant(graph, name, values)

    def add(operator: str, inputs: str, output: str, **attributes: Any) -> None:  # noqa: ANN401
        graph.node.append(helper.make_node(operator, inputs.split(), output.split(), **attributes))

    add("Slice", f"{decoded} nms_zero nms_four nms_one", "nms_columns")  # boxes as [1, 4, N]
    add("Transpose", "nms_columns", "nms_boxes", perm=[0, 2, 1])
    add("Slice", f"{decoded} nms_four nms_end nms_one", "nms_scores")
    add("Greater", "nms_scores nms_thresholds", "nms_is_above")
    add("Cast", "nms_is_above", "nms_above", to=_FLOAT)
    add("Mul", "nms_scores nms_above", "nms_candidates")
    add(
        "NonMaxSuppression",
        "nms_boxes nms_candidates nms_most nms_iou nms_nothing",
        "nms_chosen",  # [M, 3]: image, class, box
        center_point_box=1,
    )
    add("Gather", "nms_chosen nms_box_column", "nms_places", axis=1)
    add("Gather", "nms_chosen nms_class_column", "nms_labels", axis=1)
    add("Squeeze", "nms_boxes nms_zero", "nms_flat_boxes")
    add("Gather", "nms_flat_boxes nms_places", "nms_kept", axis=0)
    add("GatherND", "nms_candidates nms_chosen", "nms_kept_scores")
    add("Slice", "nms_kept nms_zero nms_two nms_one", "nms_centres")
    add("Slice", "nms_kept nms_two nms_four nms_one", "nms_sides")
    add("Mul", "nms_sides nms_half", "nms_halves")
    add("Sub", "nms_centres nms_halves", "nms_first")
    add("Add", "nms_centres nms_halves", "nms_second")
    add("Concat", "nms_first nms_second", "nms_corners", axis=1)
    add("Max", "nms_corners nms_nothing", "nms_positive")
    add("Min", "nms_positive nms_border", "nms_clipped")
    add("Unsqueeze", "nms_kept_scores nms_one", "nms_score")
    add("Cast", "nms_labels", "nms_float_labels", to=_FLOAT)
    add("Unsqueeze", "nms_float_labels nms_one", "nms_label")
    add("Concat", "nms_clipped nms_score nms_label", "nms_rows", axis=1)
    add("Concat", "nms_rows nms_padding", "nms_padded", axis=0)
    add("Gather", "nms_padded nms_score_column", "nms_padded_scores", axis=1)
    add("TopK", "nms_padded_scores nms_most", "nms_values nms_order", axis=0, largest=1, sorted=1)
    add("Gather", "nms_padded nms_order", "nms_best", axis=0)
    add("Unsqueeze", "nms_best nms_zero", "detections")
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("detections", _FLOAT, [1, limits.detections_per_img, 6]))


def _nms_constants(limits: Limits, num_classes: int, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """The inputs of the operators of ``add_nms`` that do not depend on an image."""
    most = limits.detections_per_img
    height, width = size
    return {
        "nms_four": np.array([4], np.int64),
        "nms_two": np.array([2], np.int64),
        "nms_zero": np.array([0], np.int64),
        "nms_one": np.array([1], np.int64),
        "nms_end": np.array([2**31 - 1], np.int64),
        "nms_most": np.array([most], np.int64),
        "nms_iou": np.array([limits.nms_thresh], np.float32),
        "nms_nothing": np.array([0], np.float32),
        "nms_half": np.array([0.5], np.float32),
        "nms_border": np.array([width, height, width, height], np.float32),
        "nms_thresholds": np.full(
            (1, num_classes, 1), np.array(limits.score_thresh, np.float32).reshape(1, -1, 1), np.float32
        ),
        "nms_class_column": np.array(1, np.int64),
        "nms_box_column": np.array(2, np.int64),
        "nms_score_column": np.array(4, np.int64),
        "nms_padding": np.zeros((most, 6), np.float32),
    }


def _add_constant(graph: Any, name: str, values: NDArray[Any]) -> None:  # noqa: ANN401
    graph.initializer.append(numpy_helper.from_array(values, name))
