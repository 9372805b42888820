"""Request bodies: pictures in a form, in JSON or alone, and images in bulk."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flask import request
from numpy.lib.format import MAGIC_PREFIX
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from service.features import Images
from service.images import begins_like_picture
from service.settings import Limits
from service.web.bulk import NPY, PARSERS
from service.web.fast_path import UPLOADS
from service.web.forms import Part, all_parts, plain_files
from service.web.hints import hint
from service.web.json_body import encoded_instances, images_of, only_member, parse_json, pictures_of
from service.web.prediction_json import JSON
from service.web.problems import SHOWN
from service.web.steps import File, timed

FIELDS = ("image", "file")
N_SHOWN = 5  # field names in a message
CURL = "curl -F image=@digit.png"


def read_body(limits: Limits) -> bytes:
    """Read the whole body of the request."""
    try:
        body = request.get_data(cache=False, parse_form_data=False)
    except (BadRequest, RequestEntityTooLarge):
        raise
    except Exception as error:  # each WSGI server has its own for a malformed body
        raise BadRequest(f"malformed request body: {error}") from error
    # Werkzeug cuts a chunked body at the limit, and refuses any other one over it
    if request.content_length is None and len(body) >= limits.max_bytes:
        raise RequestEntityTooLarge
    return body


def _bulk_images(body: bytes, limits: Limits) -> Images | None:
    """Parse a bulk body as images (N, 28, 28); None for any other body."""
    kind = NPY if body.startswith(MAGIC_PREFIX) else request.mimetype
    if kind not in PARSERS or begins_like_picture(body):
        return None
    images = PARSERS[kind](body)
    if len(images) > limits.max_images:
        raise RequestEntityTooLarge(
            f"the body has {len(images):,} images; send at most {limits.max_images:,}"
        )
    if not len(images):
        raise BadRequest("no image in the request")
    return images


class Upload(NamedTuple):
    """What a request holds: picture files, or images in bulk."""

    files: Sequence[File] = ()
    images: Images | None = None  # (N, 28, 28)
    # more members of each slot of a reply for several pictures
    extras: Sequence[Mapping[str, object]] = ()
    is_list: bool = False  # the reply is a list, even of one picture
    fields: Sequence[Part] = ()  # of a form, besides the pictures


def parse_body(body: bytes, limits: Limits) -> Upload:
    """Parse the body of a request: at least one picture or image."""
    images = _bulk_images(body, limits)
    if images is not None:
        return Upload(images=images)
    if begins_like_picture(body) or request.mimetype.startswith("image/") or not body:
        upload = Upload([body])
    elif request.mimetype == "multipart/form-data":
        upload = _of_form(body, limits)
    elif request.mimetype == JSON or body.lstrip()[:1] == b"{":
        with timed("read"):
            upload = _of_json(body, limits)
    else:
        raise UnsupportedMediaType(
            f"unsupported content type {request.mimetype[:SHOWN]!r}; send multipart/form-data "
            f"with the picture in 'image', a picture as image/*, pictures in {JSON}, or images in "
            f"bulk as {' or '.join(PARSERS)}{hint(body)}"
        )
    if not any(upload.files) and upload.images is None:
        raise BadRequest(f"no picture in the request; try {CURL}")
    return upload


def _of_json(body: bytes, limits: Limits) -> Upload:
    """Parse {"image": …}, {"images": […]} or {"instances": […]}."""
    parsed = parse_json(body)
    member = only_member(parsed)
    texts = [parsed[member]] if member == "image" else parsed[member]
    if member == "instances" and (texts := encoded_instances(parsed[member])) is None:
        return Upload(images=images_of(parsed[member], limits))
    files = pictures_of(texts, limits)
    return Upload(files, extras=[{}] * len(files), is_list=member != "image")


def _of_form(body: bytes, limits: Limits) -> Upload:
    """Parse a form; the slots of its pictures have their file names."""
    fields: Sequence[Part] = ()
    parts = request.environ.get(UPLOADS) or plain_files(
        request.headers["Content-Type"], body, limits.max_pictures
    )
    if not parts:
        parts, fields = _form_parts(body, limits)
    extras = [{"filename": part.filename} if part.filename else {} for part in parts]
    return Upload([part.content for part in parts], extras=extras, fields=fields)


def _form_parts(body: bytes, limits: Limits) -> tuple[list[Part], list[Part]]:
    """Return the pictures of any form that Werkzeug can parse, and its other fields.

    The pictures are all of one field.
    """
    most = limits.max_pictures + limits.max_fields
    try:
        parts = all_parts(request.mimetype_params.get("boundary", ""), body, most)
    except ValueError:
        parts = []
    except RequestEntityTooLarge:
        raise RequestEntityTooLarge(
            f"the form has more than {most:,} parts; send at most {limits.max_pictures:,} pictures "
            f"and {limits.max_fields:,} other fields"
        ) from None
    files = [part for part in parts if part.is_picture and part.name in FIELDS]
    fields = [part for part in parts if not part.is_picture]
    _check_other_fields(fields, limits)
    if len({part.name for part in files}) > 1:
        raise BadRequest(
            "the form has files in both 'image' and 'file', so their order is "
            "unknown; send all of them in 'image'"
        )
    if not files:
        raise BadRequest(_without_file(parts))
    # a browser sends neither a name nor content if no file was chosen
    chosen = [part for part in files if part.filename or part.content] or files[:1]
    if len(chosen) > limits.max_pictures:
        raise RequestEntityTooLarge(
            f"the form has {len(chosen):,} pictures; send at most {limits.max_pictures:,}"
        )
    return chosen, fields


def _check_other_fields(fields: list[Part], limits: Limits) -> None:
    n_bytes = sum(len(field.content) for field in fields)
    if len(fields) > limits.max_fields or n_bytes > limits.max_field_bytes:
        raise RequestEntityTooLarge(
            f"the form has {len(fields):,} fields of {n_bytes:,} bytes besides its pictures; "
            f"send at most {limits.max_fields:,} of {limits.max_field_bytes:,} bytes"
        )


def _without_file(parts: list[Part]) -> str:
    """Describe a form without a file in 'image' or 'file'."""
    for part in parts:
        if part.name in FIELDS:
            text = part.content.decode("utf-8", "replace")[:SHOWN]
            detail = f"the field {part.name!r} is the text {text!r}, not a file; use "
            is_name = 0 < len(part.content) < SHOWN and text.isprintable()
            file = text if is_name else "digit.png"
            return f"{detail}-F {part.name}=@{file.lstrip('@')}{hint(part.content)}"
    # the name is None if the part has none
    names = sorted({str(part.name) for part in parts})
    found = "no readable field: does the boundary match the Content-Type?"
    if names:
        shown = ", ".join(repr(name[:SHOWN]) for name in names[:N_SHOWN])
        n_more = len(names) - N_SHOWN
        found = f"fields: {shown}" + (f" and {n_more} more" if n_more > 0 else "")
    return f"no file in the form's field 'image' or 'file' ({found}); try {CURL}"
