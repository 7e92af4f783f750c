"""OpenVINO's network format: reading a torch module, hashing, marking, one compressed file.

bf16 must not touch warp coordinates: rounded to 8 bits, a coordinate at the rim of a 256-pixel
picture moves by a quarter of a pixel, and OpenVINO rounds them as soon as anything learned follows
the warp. :func:`keep_warps_exact` marks all operations between the last learned layer and a warp's
grid, and the warp, with the IR attribute that makes the CPU plugin compute them in f32.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import AssetError, BackendError

__all__ = [
    "convert",
    "failures",
    "from_bytes",
    "import_openvino",
    "keep_warps_exact",
    "network_hash",
    "to_bytes",
    "warp_operations",
]

_LEARNED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
_XML, _BIN = "network.xml", "network.bin"


def import_openvino() -> Any:
    """The openvino package.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"openvino cannot be imported ({error}); pip install openvino") from error
    return openvino


def failures() -> tuple[type[Exception], ...]:
    """What OpenVINO raises for a network that it cannot read or run."""
    from openvino import frontend

    names = ("GeneralFailure", "InitializationFailure", "NotImplementedFailure", "OpConversionFailure")
    found = (getattr(frontend, name) for name in names if hasattr(frontend, name))
    return (RuntimeError, TypeError, ValueError, *found)


def convert(module: nn.Module, examples: tuple[Tensor, ...]) -> Any:
    """``module`` as an ``openvino.Model`` of fixed shapes; ports named ``input0`` … and ``output0`` …

    Raises:
        BackendError: OpenVINO is not installed or cannot read the network.
    """
    openvino = import_openvino()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = openvino.convert_model(
                module.eval(), example_input=examples, input=[list(value.shape) for value in examples]
            )
    except failures() as error:
        raise BackendError(f"openvino cannot run this network: {first_line(error)}") from error
    # Reading a saved network may change the order of its ports; their names stay.
    for index, port in enumerate(model.inputs):
        port.get_tensor().add_names({f"input{index}"})
    for index, port in enumerate(model.outputs):
        port.get_tensor().add_names({f"output{index}"})
    return model


def first_line(error: Exception) -> str:
    """The line of OpenVINO's report that names the cause: an operation it lacks, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    missing = [line.removeprefix("-- ") for line in lines if "No conversion rule" in line]
    return (missing or lines or [type(error).__name__])[0]


def network_hash(model: Any) -> str:
    """A hash of what the network computes: operations, attributes, wiring, constants; not of names."""
    digest = hashlib.sha256()
    index: dict[str, int] = {}
    for operation in model.get_ordered_ops():
        index[operation.get_friendly_name()] = len(index)
        kind = operation.get_type_name()
        digest.update(kind.encode())
        if kind == "Constant":
            data = operation.get_data()
            digest.update(f"{data.dtype}{data.shape}".encode())
            digest.update(data.tobytes())
        elif kind not in ("Parameter", "Result"):
            digest.update(repr(sorted((k, str(v)) for k, v in operation.get_attributes().items())).encode())
        for port in operation.inputs():
            source = port.get_source_output()
            digest.update(f"{index[source.get_node().get_friendly_name()]}:{source.get_index()}".encode())
        digest.update(";".join(str(port.get_partial_shape()) for port in operation.outputs()).encode())
    return digest.hexdigest()


def warp_operations(model: Any) -> set[str]:
    """Names of all operations from the last learned layers to a warp's grid, these and it included."""
    found: set[str] = set()
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "GridSample":
            continue
        found.add(operation.get_friendly_name())
        todo = [operation.input_value(1).get_node()]
        while todo:
            node = todo.pop()
            name = node.get_friendly_name()
            if name in found:
                continue
            found.add(name)
            if node.get_type_name() not in _LEARNED:
                todo += [port.get_source_output().get_node() for port in node.inputs()]
    return found


def keep_warps_exact(model: Any) -> Any:
    """A copy of ``model`` whose warp coordinates stay in f32 under any precision hint."""
    names = warp_operations(model)
    if not names:
        return model
    text, weights = _serialise(model)
    tree = ElementTree.fromstring(text)
    for layer in tree.iterfind("./layers/layer"):
        if layer.get("name") in names and layer.get("type") not in ("Const", "Parameter", "Result"):
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, info)
            ElementTree.SubElement(info, "attribute", name="precise", version="0")
    return _read(ElementTree.tostring(tree), weights)


def to_bytes(model: Any) -> bytes:
    """The network in one compressed file: a zip of OpenVINO's ``.xml`` and ``.bin``."""
    text, weights = _serialise(model)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in ((_XML, text), (_BIN, weights)):
            # A fixed date: the same network gives the same file.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_LZMA)
    return buffer.getvalue()


def from_bytes(data: bytes, origin: str) -> Any:
    """The network of :func:`to_bytes`; ``origin`` names it in errors.

    Raises:
        AssetError: the data is damaged or of a format that this OpenVINO does not read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text, weights = archive.read(_XML), archive.read(_BIN)
        return _read(text, weights)
    except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError) as error:
        raise AssetError(f"{origin} is not a network that can be read: {first_line(error)}") from error


def _serialise(model: Any) -> tuple[bytes, bytes]:
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        xml, binary = Path(folder) / _XML, Path(folder) / _BIN
        openvino.serialize(model, str(xml), str(binary))
        return xml.read_bytes(), binary.read_bytes()


def _read(text: bytes, weights: bytes) -> Any:
    return import_openvino().Core().read_model(text, weights)
