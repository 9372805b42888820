"""JSON bodies: bounded parsing, and the pictures and images in them."""

import binascii
import json
import re
from array import array
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from service.features import IMAGE_SIZE, MAX_GREY, Images
from service.settings import Limits
from service.web.bulk import MAX_FAINT, PIXELS
from service.web.hints import hint
from service.web.problems import SHOWN

Object = dict[str, Any]

# Values and members in a body, counted by its punctuation. While the parser runs, which takes
# up to 0.3 µs for each value and 1 µs for each member, few other threads do; each takes up to
# 150 bytes. A data: URL has one colon.
MAX_VALUES, MAX_MEMBERS = 1_000_000, 20_000
PUNCTUATION = (b",", b"[", b"{")
MAX_DIGITS = 310  # of an integer: float64 has at most 309. Parsing one takes 1.5 µs
N_SHOWN = 4  # items of an invalid array that a message shows
MEMBERS = ("image", "images", "instances")
BASE64 = "b64"  # the member of an instance in TensorFlow Serving's form
IGNORED = "signature_name"  # TensorFlow Serving's clients send it beside the instances
USAGE = (
    'send {"image": "BASE64"}, {"images": ["BASE64", …]} or {"instances": [IMAGE, …]} with '
    'images of 28 x 28 numbers or {"b64": "BASE64"}; options are query parameters'
)
DATA_URL = re.compile(r"\s*data:([^,]*),", re.IGNORECASE)
ESCAPED = {b"%2B": b"+", b"%2F": b"/", b"%3D": b"="}  # in a URL; decoded in bounded memory
URL_SAFE = bytes.maketrans(b"-_", b"+/")  # RFC 4648, section 5
WHITESPACE = b" \t\r\n"


def parse_json(body: bytes) -> Object:
    """Parse a JSON object within bounds of time and memory.

    Raises BadRequest if it is malformed, names a member twice or has a number that JSON
    does not know, and RequestEntityTooLarge if it has too many values.
    """
    if sum(map(body.count, PUNCTUATION)) > MAX_VALUES or body.count(b":") > MAX_MEMBERS:
        raise RequestEntityTooLarge(
            f"the JSON has over {MAX_VALUES:,} values or {MAX_MEMBERS:,} members; send binary data"
        )
    decoder = _SLOW_DECODER if _has_long_integer(body) else _DECODER
    try:
        found = decoder.decode(body.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        reason = str(error)
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError:
        reason = f"an integer has too many digits, over {MAX_DIGITS}"
    else:
        if isinstance(found, dict):
            return found
        raise BadRequest(f"the JSON is {shown(found)}; send an object, {{…}}")
    is_like_json = body.lstrip()[:1] in (b"[", b"{")
    raise BadRequest(f"malformed JSON: {reason}{'' if is_like_json else hint(body)}")


def _unique(pairs: list[tuple[str, Any]]) -> Object:
    members = dict(pairs)
    if len(members) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise BadRequest(f"the JSON has the member {twice[:SHOWN]!r} twice; send it once")
    return members


def _float(text: str) -> float:
    # called from the parser, so that other threads run in between: it takes 0.3 µs for each
    return float(text)


def _refuse_constant(name: str) -> None:
    raise BadRequest(f"the JSON has the number {name}; send finite numbers")


def _int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise ValueError
    return int(text)


def _has_long_integer(body: bytes) -> bool:
    """Return whether a body has over MAX_DIGITS digits in a row, which a string may have too."""
    half = MAX_DIGITS // 2  # of the digits, one half is at a multiple of that number
    return any(body[i : i + half].isdigit() for i in range(0, len(body) - half, half))


_HOOKS: dict[str, Any] = {
    "object_pairs_hook": _unique,
    "parse_constant": _refuse_constant,
    "parse_float": _float,
}
_DECODER = json.JSONDecoder(**_HOOKS)
_SLOW_DECODER = json.JSONDecoder(**_HOOKS, parse_int=_int)  # 0.1 µs slower for each value


def shown(value: object) -> str:
    """Return the beginning of an invalid value, as JSON, for a message."""
    if not isinstance(value, list):
        return _brief(value)
    more = ["…"] if len(value) > N_SHOWN else []
    return f"[{', '.join([*map(_brief, value[:N_SHOWN]), *more])}]"


def too_many(n: int, what: str, most: int) -> RequestEntityTooLarge:
    """Return the error of a request with more pictures or images than the limit."""
    # n may have hundreds of digits
    return RequestEntityTooLarge(
        f"the request has {n:,}"[:SHOWN] + f" {what}; send at most {most:,}"
    )


def _brief(value: object) -> str:
    # what is nested may be large or deep
    if isinstance(value, (list, dict)):
        return "[…]" if isinstance(value, list) else "{…}"
    return json.dumps(value[:SHOWN] if isinstance(value, str) else value)[:SHOWN]


def pictures_of(texts: object, limits: Limits) -> list[bytes | BadRequest]:
    """Decode pictures in base64 as files.

    An error takes the place of a picture that cannot be decoded.
    """
    if not isinstance(texts, list):
        raise BadRequest(f"'images' is {shown(texts)}, not an array; {USAGE}")
    if len(texts) > limits.max_pictures:
        raise too_many(len(texts), "pictures", limits.max_pictures)
    return [_picture(text) for text in texts]


def encoded_instances(instances: object) -> list[object] | None:
    """Return the base64 in instances {"b64": TEXT} or {NAME: {"b64": TEXT}}.

    Returns None for instances of numbers. TensorFlow Serving takes both forms. Raises
    BadRequest for other objects.
    """
    if not isinstance(instances, list) or not any(isinstance(each, dict) for each in instances):
        return None
    texts = []
    for each in instances:
        members = list(each.values()) if isinstance(each, dict) else []
        named = members[0] if len(members) == 1 and isinstance(members[0], dict) else each
        if not isinstance(named, dict) or list(named) != [BASE64]:
            found = list(named) if isinstance(named, dict) else named
            raise BadRequest(
                f"an instance has {shown(found)}; send all as images of 28 x 28 numbers, or all as "
                '{"b64": "BASE64"}'
            )
        texts.append(named[BASE64])
    return texts


def only_member(body: Object) -> str:
    """Return which member the body has; raise BadRequest unless it is exactly one."""
    names = [name for name in body if name != IGNORED]
    if len(names) != 1 or names[0] not in MEMBERS:
        listed = ", ".join(repr(name[:SHOWN]) for name in names[:5])
        raise BadRequest(f"the JSON has the members [{listed}]; {USAGE}")
    return names[0]


def _picture(text: object) -> bytes | BadRequest:
    try:
        return decode_base64(text)
    except BadRequest as error:
        return error


def decode_base64(text: object) -> bytes:
    """Decode base64, URL-safe or not, with or without a data: URL around it.

    Raises BadRequest if it is not base64.
    """
    if not isinstance(text, str):
        raise BadRequest(f"a picture is {shown(text)}; send it as a string of base64")
    data = text.encode(errors="replace")
    if url := DATA_URL.match(text):
        if not url[1].lower().endswith(";base64"):
            raise BadRequest(f"the data: URL is not of base64: {shown(text)}")
        data = text[url.end() :].encode(errors="replace")
        for escaped, plain in ESCAPED.items():
            data = data.replace(escaped, plain).replace(escaped.lower(), plain)
    data = data.translate(URL_SAFE, WHITESPACE).rstrip(b"=")
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except binascii.Error as error:
        raise BadRequest(f"a picture is not base64 ({error}): {shown(text)}{hint(data)}") from None


def numbers_of(values: object, what: str) -> tuple[npt.NDArray[np.float64], tuple[int, ...]]:
    """Return the numbers in nested arrays, flat, and their shape.

    Raises BadRequest if they are not finite numbers, or the arrays differ in length.
    """
    level: list[Any] = values if isinstance(values, list) else [values]
    shape = [len(level)]
    try:
        while level and isinstance(level[0], list):
            (length,) = {len(each) for each in level}
            shape.append(length)
            level = list(chain.from_iterable(level))
        numbers = np.array(array("d", level))
    except (TypeError, ValueError, OverflowError):
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all():
        raise BadRequest(f"{what} is no array of numbers of one shape: {shown(values)}")
    return numbers, tuple(shape)


def images_of(instances: object, limits: Limits) -> Images:
    """Parse instances of 784 or 28 x 28 numbers as images (N, 28, 28) of uint8.

    Levels are 0 to 255, or 0 to 1. Raises BadRequest if it is unclear which.
    """
    numbers, (n, *axes) = numbers_of(instances, "'instances'")
    if n > limits.max_images:
        raise too_many(n, "instances", limits.max_images)
    # Keras adds an axis of one channel, torch too
    if [axis for axis in axes if axis != 1] not in ([PIXELS], [*IMAGE_SIZE]):
        raise BadRequest(
            f"'instances' has the shape {shown([n, *axes])}; each is {PIXELS} or 28 x 28 numbers"
        )
    return _levels(numbers.reshape(n, PIXELS)).reshape(n, *IMAGE_SIZE)


def _levels(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Scale images (N, 784), of levels from 0 to 255 or from 0 to 1, to 0 to 255."""
    low, high = numbers.min(initial=0), numbers.max(initial=0)
    tops = numbers.max(axis=1, initial=0)
    is_fraction = (tops <= 1) & (numbers % 1 > 0).any(axis=1)
    faint = MAX_FAINT / MAX_GREY
    if low < 0 or high > MAX_GREY or 0 < high <= faint or 1 < high <= MAX_FAINT:
        reason = f"its levels are from {low:g} to {high:g}"
    elif high > 1 and is_fraction.any():
        reason = f"instance {is_fraction.argmax()} has levels up to 1, others up to {high:g}"
    else:
        scaled = numbers if high > 1 else MAX_GREY * numbers
        return np.rint(scaled).astype(np.uint8)
    raise BadRequest(f"unclear levels: {reason}; send 0 (background) to 255 (ink), or 0 to 1")
