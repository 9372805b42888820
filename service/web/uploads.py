"""Request bodies: the pictures of a form or of a body, and images in bulk."""

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
from service.web.problems import SHOWN

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


def bulk_images(body: bytes, limits: Limits) -> Images | None:
    """Parse a bulk body as images (N, 28, 28); None for a picture or a form."""
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


def pictures(body: bytes, limits: Limits) -> list[bytes]:
    """Return the picture files of the request, at least one."""
    if begins_like_picture(body) or request.mimetype.startswith("image/") or not body:
        files = [body]
    elif request.mimetype == "multipart/form-data":
        files = (
            request.environ.get(UPLOADS)
            or plain_files(request.headers["Content-Type"], body, limits.max_pictures)
            or _form_files(body, limits)
        )
    else:
        raise UnsupportedMediaType(
            f"unsupported content type {request.mimetype[:SHOWN]!r}; send multipart/form-data "
            "with the picture in 'image', a picture as image/*, or images in bulk as "
            + " or ".join(PARSERS)
            + hint(body)
        )
    if not any(files):
        raise BadRequest(f"no picture in the request; try {CURL}")
    return files


def _form_files(body: bytes, limits: Limits) -> list[bytes]:
    """Return the files of any form that Werkzeug can parse, all of one field."""
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
    _check_other_fields([part for part in parts if not part.is_picture], limits)
    if len({part.name for part in files}) > 1:
        raise BadRequest(
            "the form has files in both 'image' and 'file', so their order is "
            "unknown; send all of them in 'image'"
        )
    if not files:
        raise BadRequest(_without_file(parts))
    # a browser sends neither a name nor content if no file was chosen
    contents = [part.content for part in files if part.filename or part.content] or [b""]
    if len(contents) > limits.max_pictures:
        raise RequestEntityTooLarge(
            f"the form has {len(contents):,} pictures; send at most {limits.max_pictures:,}"
        )
    return contents


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
