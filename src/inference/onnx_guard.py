"""Validates an untrusted ONNX file before a runtime gets it.

A graph of ONNX's own operators cannot run code, but it can name other files, operators that a library registers, and
sizes that no machine has. Files of this project need none of these, so each is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrlab.imports import need

INPUT, OUTPUTS = "image", ("logit", "score")  # names
ONNX = "an ONNX file"  # what needs the extra `export`, for messages
MAX_BYTES = 2**31 - 1  # of a file with its weights inside: protobuf's own limit
MAX_ELEMENTS = 2**30  # that a graph computes: 4 GB of float32, if nothing of it were freed in between
MAX_WORK = 2 * 10**12  # multiplications that a graph makes of one image; torchvision's largest makes half as many
MAX_NODES = 50_000  # operators of a graph
_DOMAINS = ("", "ai.onnx")
_PRODUCTS = ("Attention", "Conv", "Einsum", "Gemm", "MatMul")
OPERATORS = frozenset(
    (
        *_PRODUCTS,
        *("Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil"),
        *("Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Cos", "CumSum", "DepthToSpace", "Div", "Dropout"),
        *("Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu"),
        *("GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid"),
        *("HardSwish", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual"),
        *("Log", "LogSoftmax", "LpNormalization", "LpPool", "Max", "MaxPool", "MeanVarianceNormalization", "Min"),
        *("Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "RMSNormalization", "Range", "Reciprocal"),
        *("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
        *("ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "ScatterElements", "ScatterND", "Selu", "Shape"),
        *("Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split"),
        *("Sqrt", "Squeeze", "Sub", "Sum", "Swish", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor"),
    )
)
"""What a graph may be made of: operators whose work follows from the shapes of what goes in and comes out."""
_STRING = 8  # TensorProto.STRING
_SMALL = 1024  # elements; the shapes that reshaping and slicing ask for are shorter


class RefusedError(ValueError):
    """Something that no file of this project has; says what, for a sentence that names the file and what to do."""


def check(model: Any, size: int) -> None:
    """Refuses, with a RefusedError, all in a file of ``size`` bytes that no file of this project has.

    Args:
        model: ``onnx.ModelProto``, without anything from other files.
        size: Bytes of the file.
    """
    for domain in (entry.domain for entry in model.opset_import):
        if domain not in _DOMAINS:
            raise RefusedError(f"it wants operators of {domain[:80]!r}, and not of ONNX itself")
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    for part, found in {
        "functions": model.functions,
        "training graphs": model.training_info,
        "sparse weights": model.graph.sparse_initializer,
        "graphs inside of its graph": [each for each in attributes if each.HasField("g") or each.graphs],
        "sparse constants": [each for each in attributes if each.HasField("sparse_tensor") or each.sparse_tensors],
    }.items():
        if len(found):
            raise RefusedError(f"it has {part}, which no file of this project has")
    keys = [entry.key for entry in model.metadata_props]
    if len(keys) != len(set(keys)):
        raise RefusedError("it says the same key of its metadata twice")
    _check_operators(model)
    constants = [tensor for each in attributes for tensor in (*([each.t] if each.HasField("t") else []), *each.tensors)]
    for tensor in (*model.graph.initializer, *constants):
        _check_tensor(tensor, size)


def _check_operators(model: Any) -> None:
    if len(model.graph.node) > MAX_NODES:
        raise RefusedError(f"it has {len(model.graph.node):,} operators, and {MAX_NODES:,} are the most")
    for node in model.graph.node:
        if node.domain not in _DOMAINS:
            operator, domain = repr(node.op_type)[:80], repr(node.domain)[:80]
            raise RefusedError(f"{operator} is an operator of {domain}, and not of ONNX itself")
        if node.op_type not in OPERATORS:
            raise RefusedError(f"{node.op_type[:80]!r} is an operator that no file of this project has")


def _check_tensor(tensor: Any, size: int) -> None:
    name = repr(tensor.name[:80])
    if tensor.data_location != 0 or len(tensor.external_data):  # TensorProto.DEFAULT: in this file
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        where = ", ".join(map(repr, places))[:80] or "unnamed"
        raise RefusedError(f"weights {name} lie in another file ({where}), and only this one is read")
    # Two numbers of four bits are the most that a byte holds.
    numbers = math.prod(tensor.dims)
    if any(side < 0 for side in tensor.dims) or numbers > 2 * size or tensor.data_type == _STRING:
        sides = " x ".join(map(str, tensor.dims))[:80]
        raise RefusedError(f"weights {name} say to be {sides} numbers, more than the file holds")
    if numbers <= 1:  # a single one may be infinite: less than anything
        return
    try:
        values = need("onnx", ONNX).numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, NotImplementedError):  # shape inference and the runtime refuse it
        return
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise RefusedError(f"weights {name} are not all finite numbers, as after a training that diverged")


def check_shapes(model: Any, shape: tuple[int, int, int]) -> int:
    """Refuses a graph whose inputs and outputs are not those of a classifier of such images, or whose values are huge.

    Args:
        model: ``onnx.ModelProto`` that passed :func:`check`.
        shape: Channels, height and width of one image, by the file's metadata.

    Returns:
        How many numbers it computes for one image, at least 1 and at most :data:`MAX_ELEMENTS`.

    Raises:
        RefusedError: Says what was found.
    """
    inputs = [_described(value) for value in model.graph.input]
    if inputs != [(INPUT, 1, (None, *shape))]:
        wanted = f"{INPUT!r}, float32 (N, {', '.join(map(str, shape))})"
        raise RefusedError(f"its one input must be {wanted}, as its preprocessing says, got {_listed(inputs)}")
    outputs = [(name, kind, len(sides)) for name, kind, sides in map(_described, model.graph.output)]
    if outputs != [(name, 1, 1) for name in OUTPUTS]:
        raise RefusedError(f"its outputs must be {' and '.join(OUTPUTS)}, float32 (N,), got {_listed(outputs)}")
    shapes = _inferred(model, shape)
    sizes = {name: math.prod(sides) for name, sides in shapes.items()}
    total = sum(sizes.values())
    if total > MAX_ELEMENTS:
        largest = max(sizes, key=lambda name: sizes[name])
        told = f"{sizes[largest]:,} of them in {largest[:80]!r}"
        raise RefusedError(f"it computes {total:,} numbers for one image, {told}")
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer} | {INPUT: (1, *shape)}
    work = sum(_work(node, shapes) for node in model.graph.node)
    if work > MAX_WORK:
        raise RefusedError(f"it makes {work:,} multiplications of one image, and {MAX_WORK:,} are the most")
    return max(1, total)


def _work(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiplications, or numbers that are read and written, of one operator, at most."""
    taken = [shapes.get(name, ()) for name in node.input]
    given = sum(math.prod(shapes[name]) for name in node.output if name)
    if node.op_type == "Conv" and len(taken) > 1:
        return given * math.prod(taken[1][1:])
    if node.op_type == "Einsum":
        equation = next((each.s.decode(errors="replace") for each in node.attribute if each.name == "equation"), "")
        sides: dict[str, int] = {}  # of each letter
        for term, shape in zip(equation.partition("->")[0].split(","), taken, strict=False):
            sides |= zip(term.strip(), shape, strict=False)
        return math.prod(sides.values()) if "." not in equation else MAX_WORK
    if node.op_type in _PRODUCTS:
        return given * max((side for sides in taken[:2] for side in sides), default=1)
    kernel = [attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape"]
    return given * math.prod(kernel[0] if kernel else ()) + sum(map(math.prod, taken))


def seal(model: Any, texts: Mapping[str, str]) -> str:
    """SHA-256 over graph, versions of operators and texts: it tells a changed file from the one that was written.

    It is no signature: whoever changes a file on purpose can compute it anew.

    Args:
        model: ``onnx.ModelProto``.
        texts: What travels inside, but for the seal.
    """
    digest = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
    for each in sorted((entry.domain, entry.version) for entry in model.opset_import):
        digest.update(repr(each).encode())
    for key, text in sorted(texts.items()):
        digest.update(f"{key} {len(text)} {text}".encode())
    return digest.hexdigest()


def _described(value: Any) -> tuple[str, int, tuple[int | None, ...]]:
    """Name, type and shape of an input or output; ``None`` for a side that may vary."""
    tensor = value.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim)
    return value.name, tensor.elem_type, sides


def _inferred(model: Any, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of everything that the graph computes for one image; all must be known without running it."""
    onnx = need("onnx", ONNX)
    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bare.graph.name = "shapes"
    nodes, sides_read = _without_sides(model.graph.node, [1, *shape])
    bare.graph.node.extend(nodes)
    bare.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in sides_read.items())
    bare.graph.output.extend(model.graph.output)
    bare.graph.input.extend(model.graph.input)
    bare.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for each in bare.graph.output:
        each.type.tensor_type.ClearField("shape")  # of N images
    for tensor in model.graph.initializer:  # weights by their shapes alone: they may be half a gigabyte
        if math.prod(tensor.dims) <= _SMALL:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        found = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise RefusedError(f"its operators do not fit together ({reason})") from None
    known = {name: sides for name, _, sides in map(_described, [*found.graph.value_info, *found.graph.output])}
    known |= {name: value.shape for name, value in sides_read.items()}
    shapes = {}
    for name in (name for node in model.graph.node for name in node.output if name):
        sides = known.get(name, (None,))
        shapes[name] = tuple(side for side in sides if side is not None and side >= 0)
        if len(shapes[name]) < len(sides):
            raise RefusedError(f"how large {name[:80]!r} becomes cannot be known before it is run")
    return shapes


def _without_sides(nodes: Iterable[Any], sides: list[int]) -> tuple[list[Any], dict[str, NDArray[np.int64]]]:
    """Nodes but for those that read how many images there are, or how large; and what these say, by name.

    ONNX's own inference follows such numbers into most operators, and not into ``Range``, which ConvNeXt comes with.
    """
    rest: list[Any] = []
    known: dict[str, NDArray[np.int64]] = {}
    for node in nodes:
        if node.op_type == "Shape" and list(node.input) == [INPUT]:
            bounds = {attribute.name: attribute.i for attribute in node.attribute}
            known[node.output[0]] = np.array(sides[bounds.get("start", 0) : bounds.get("end")], np.int64)
        elif node.op_type == "Squeeze" and node.input[0] in known and known[node.input[0]].size == 1:
            known[node.output[0]] = known[node.input[0]].reshape(())
        else:
            rest.append(node)
    return rest, known


def _listed(found: Iterable[tuple[Any, ...]]) -> str:
    return "; ".join(f"{each[0][:80]!r} {str(each[1:])[:80]}" for each in list(found)[:4]) or "none"
