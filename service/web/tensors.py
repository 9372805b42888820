"""Tensors of the Open Inference Protocol v2, as JSON or binary."""

import json
import zlib
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from service.features import IMAGE_SIZE, MAX_GREY, Images
from service.settings import Limits
from service.web.bulk import PIXELS
from service.web.json_body import Object, decode_base64, numbers_of, parse_json, shown, too_many
from service.web.problems import SHOWN

Array = npt.NDArray[Any]

INPUT = "image"
DATATYPES = {"f": "FP32", "i": "INT64"}  # by numpy's kind, of the outputs
MEMBER_TYPES = {str: "a string", list: "an array", dict: "an object", int: "an integer"}
SIZE_BYTES = 4  # of the little-endian length before each element of BYTES
ENCODINGS = ("gzip", "deflate")
ANY_HEADER = 32 + zlib.MAX_WBITS  # zlib detects whether the data has gzip's header or its own


class Inference(NamedTuple):
    """A request: images (N, 28, 28) or else picture files, and the outputs to return."""

    images: Images | None
    files: list[bytes]
    id: str | None
    outputs: dict[str, bool]  # in order: whether each is binary


def decompress(body: bytes, encoding: str, limits: Limits) -> bytes:
    """Decompress a body by its Content-Encoding, up to the limit of a body."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ENCODINGS:
        raise UnsupportedMediaType(f"unsupported Content-Encoding {encoding[:SHOWN]!r}")
    stream = zlib.decompressobj(ANY_HEADER)
    try:
        found = stream.decompress(body, limits.max_bytes)
    except zlib.error as error:
        raise BadRequest(f"the body is not compressed by {encoding}: {error}") from None
    if stream.unconsumed_tail:
        raise RequestEntityTooLarge
    if not stream.eof or stream.unused_data:
        raise BadRequest(f"the body is not one stream compressed by {encoding}")
    return found


def parse_inference(
    body: bytes, header_length: str | None, names: tuple[str, ...], limits: Limits
) -> Inference:
    """Parse a request.

    header_length: the value of Inference-Header-Content-Length, the bytes of JSON before
    binary data; names: of the outputs that there are
    """
    text = header_length or str(len(body))
    # a longer number is beyond any body
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= len(body)):
        raise BadRequest(
            f"Inference-Header-Content-Length is {text[:SHOWN]!r}, but the body has "
            f"{len(body):,} bytes; send the bytes of the JSON"
        )
    document = parse_json(body[: int(text)])
    inputs = _member(document, "inputs", list)
    name = inputs[0].get("name") if inputs and isinstance(inputs[0], dict) else None
    if len(inputs) != 1 or name != INPUT:
        raise BadRequest(f"{len(inputs)} inputs, the first is {shown(name)}; send one, {INPUT!r}")
    outputs = _outputs(document, names)
    images, files = _input(inputs[0], memoryview(body)[int(text) :], limits)
    return Inference(images, files, _member(document, "id", str, None), outputs)


def _member(owner: Object, name: str, kind: type, *default: Any) -> Any:
    """Return a member of a JSON object; raise BadRequest if it is of another type."""
    value = owner.get(name)
    if value is None and default:
        return default[0]
    # True is an int in Python, and no integer in JSON
    if type(value) is not kind:
        raise BadRequest(f"{name!r} is {shown(value)}; send {MEMBER_TYPES[kind]}")
    return value


def _outputs(document: Object, names: tuple[str, ...]) -> dict[str, bool]:
    """Return the requested outputs, all by default, and whether each is binary."""
    all_binary = _member(document, "parameters", dict, {}).get("binary_data_output", False)
    requested = _member(document, "outputs", list, []) or [{"name": name} for name in names]
    outputs: dict[str, bool] = {}
    for output in requested:
        name = output.get("name") if isinstance(output, dict) else None
        if name not in names or name in outputs:
            raise BadRequest(f"unknown or repeated output {shown(name)}; there are {names}")
        parameters = _parameters(output)
        if parameters.get("classification"):
            raise BadRequest("'classification' is not supported; read the output 'probabilities'")
        outputs[name] = parameters.get("binary_data", all_binary) is True
    return outputs


def _parameters(tensor: Object) -> Object:
    parameters: Object = _member(tensor, "parameters", dict, {})
    if "shared_memory_region" in parameters:
        raise BadRequest("shared memory is not supported; send and receive the data itself")
    return parameters


def _input(tensor: Object, binary: memoryview, limits: Limits) -> tuple[Images | None, list[bytes]]:
    """Return the images (N, 28, 28) or the picture files of the input."""
    datatype, shape = _member(tensor, "datatype", str), _member(tensor, "shape", list)
    is_shape = shape and all(type(n) is int and n >= 0 for n in shape)
    kinds = {"BYTES": ([],), "UINT8": ([*IMAGE_SIZE], [PIXELS])}
    if datatype not in kinds or not is_shape or shape[1:] not in kinds[datatype]:
        raise BadRequest(
            f"the input is {datatype[:SHOWN]} {shown(shape)}; send UINT8 [N, 28, 28] or [N, 784], "
            "or BYTES [N]"
        )
    n, is_bytes = shape[0], datatype == "BYTES"
    most = limits.max_pictures if is_bytes else limits.max_images
    if n > most:
        raise too_many(n, "images", most)
    if not n:
        raise BadRequest("no image in the request")
    size = _member(_parameters(tensor), "binary_data_size", int, None)
    data = tensor.get("data")
    if (data is None) == (size is None) or (size or 0) != len(binary):
        raise BadRequest(
            f"{len(binary):,} bytes follow the JSON, 'binary_data_size' is {shown(size)} and "
            f"'data' is {'absent' if data is None else 'present'}; send the input as either"
        )
    if is_bytes:
        return None, _elements(binary, n) if data is None else _texts(data, n)
    levels = np.frombuffer(binary, np.uint8) if data is None else _levels(data)
    if levels.size != prod(shape):
        raise BadRequest(f"the input has {levels.size:,} values; its shape is {shape}")
    return levels.reshape(n, *IMAGE_SIZE), []


def _levels(data: object) -> npt.NDArray[np.uint8]:
    """Return grey levels from nested or flat arrays of whole numbers."""
    numbers, _ = numbers_of(data, "'data'")
    levels = numbers.clip(0, MAX_GREY).astype(np.uint8)
    if (levels != numbers).any():
        wrong = numbers[levels != numbers][0]
        raise BadRequest(f"'data' has the value {wrong:g}; UINT8 is whole numbers from 0 to 255")
    return levels


def _elements(binary: memoryview, n: int) -> list[bytes]:
    """Split a binary BYTES tensor into its n elements."""
    elements, at = [], 0
    for i in range(n):
        start = at + SIZE_BYTES
        at = start + int.from_bytes(binary[at:start], "little")
        if at > len(binary):
            n_missing = at - len(binary)
            raise BadRequest(f"element {i} of BYTES ends {n_missing:,} bytes after the data")
        elements.append(bytes(binary[start:at]))
    if at != len(binary):
        raise BadRequest(f"{len(binary) - at:,} bytes follow the {n:,} elements of BYTES")
    return elements


def _texts(data: object, n: int) -> list[bytes]:
    """Decode a BYTES tensor of n base64 strings."""
    if not isinstance(data, list) or len(data) != n:
        raise BadRequest(f"'data' of BYTES is {shown(data)}; send {n:,} strings of base64")
    return [decode_base64(text) for text in data]


def write_inference(
    head: Object, tensors: Mapping[str, Array], outputs: Mapping[str, bool]
) -> tuple[bytes, int | None]:
    """Write a reply; return the length of its JSON too if binary data follows it."""
    described: list[Object] = []
    blobs: list[bytes] = []
    for name, is_binary in outputs.items():
        array = tensors[name]
        datatype = DATATYPES[array.dtype.kind]
        tensor: Object = {"name": name, "shape": array.shape, "datatype": datatype}
        if is_binary:
            blobs.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = array.ravel().tolist()
        described.append(tensor)
    text = json.dumps(head | {"outputs": described}).encode()
    return text + b"".join(blobs), len(text) if blobs else None
