"""Networks on a CPU by OpenVINO, opened from ONNX and called from many threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import usable_cores

# Values that share one scale in int8: of a weight matrix along its inputs, and of what comes in.
# With MiniLM 128 is a tenth faster, at a cosine to float32 of .9991 instead of .9995.
_INT8_GROUP = 64

_starting = threading.Lock()


class CpuNetwork:
    """A network whose calls take one core each: `Encoder.calls_at_once` of them run side by side.

    `inputs` are the names of its inputs, `output` the shape of its output, -1 where any.
    """

    def __init__(self, compiled: Any, outputs: Sequence[str]) -> None:
        self._compiled = compiled
        self._of_thread = threading.local()
        self.inputs = {value.any_name for value in compiled.inputs}
        named = [value for value in compiled.outputs if value.get_names() & set(outputs)]
        self._output = (named or compiled.outputs)[0]
        shape = self._output.partial_shape
        self.output = [int(one.get_length()) if one.is_static else -1 for one in shape]

    def __call__(self, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the output for arrays by the names of the inputs."""
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._compiled.create_infer_request()
        request.infer(dict(feed), share_inputs=True)
        found: NDArray[np.float32] = request.get_tensor(self._output).data.copy()
        return found


def open_network(
    export: bytes | Path, *, fast: bool = False, outputs: Sequence[str] = ()
) -> CpuNetwork:
    """Open an ONNX export.

    Args:
        export: the file, or its bytes.
        fast: multiply matrices in int8 and all else in bfloat16, where the processor can; without,
            everything is computed in float32. Whoever asks for it bounds what that changes.
        outputs: names of the output that is wanted; where none of them is there, it is the first.
    """
    openvino = runtime()
    core = openvino.Core()
    model = core.read_model(str(export) if isinstance(export, Path) else export)
    if fast:
        _round_weights(model)
    precision = (
        {"DYNAMIC_QUANTIZATION_GROUP_SIZE": _INT8_GROUP}
        if fast
        else {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    )
    cores = usable_cores()
    return CpuNetwork(
        core.compile_model(
            model,
            "CPU",
            {
                # A stream for each call at a time, a thread for each stream; not bound to cores,
                # of which other encoders' streams would take the same.
                "NUM_STREAMS": cores,
                "INFERENCE_NUM_THREADS": cores,
                "ENABLE_CPU_PINNING": False,
                **precision,
            },
        ),
        outputs,
    )


def runtime() -> Any:
    """Return the module openvino, imported with its telemetry off.

    Its import tells Intel that it happened, unless the package that tells is not there. What a
    user imported before stays.
    """
    with _starting:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        # The first conversions of arrays fill tables of its C++ layer, which lets go of Python's
        # lock meanwhile: two threads that come to that at once wait for each other for ever.
        openvino.Tensor(np.zeros(1, dtype=np.float32), shared_memory=True).data  # noqa: B018
        openvino.Type.f32.to_dtype()
    return openvino


def _round_weights(model: Any) -> None:
    """Put int8 with a scale for each group in place of the constants that inputs are multiplied by:
    the form of which OpenVINO makes integer arithmetic."""
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        constant = node.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or len(constant.shape) != 2:
            continue
        weights = constant.data if node.get_attributes()["transpose_b"] else constant.data.T
        outputs, inputs = weights.shape
        group = _INT8_GROUP if inputs % _INT8_GROUP == 0 else inputs
        grouped = weights.reshape(outputs, inputs // group, group)
        scales = np.abs(grouped).max(axis=2, keepdims=True) / np.float32(127)
        rounded = np.rint(grouped / np.where(scales == 0, 1, scales)).astype(np.int8)
        floats = opset13.convert(opset13.constant(rounded), np.float32)
        scaled = opset13.multiply(floats, opset13.constant(scales))
        matrix = opset13.reshape(scaled, opset13.constant([outputs, inputs]), False)
        product = opset13.matmul(node.input_value(0), matrix, False, True)
        for taker in node.output(0).get_target_inputs():
            taker.replace_source_output(product.output(0))
    model.validate_nodes_and_infer_types()
