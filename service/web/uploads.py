"""Request bodies: the pictures of a form or of a body, and images in bulk."""

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from service.features import Images
from service.settings import Limits
from service.web.bulk import PARSERS
from service.web.fast_path import UPLOADS
from service.web.forms import plain_files

FIELDS = ("image", "file")
N_SHOWN, SHOWN = 5, 40  # field names in a message, and characters of each
CURL = "curl -F image=@digit.png"


def read_body(limits: Limits) -> bytes:
    """Read the whole body of the request."""
    try:
        # cached, so that Werkzeug can still parse a form that is not plain
        body = request.get_data(cache=True, parse_form_data=False)
    except (BadRequest, RequestEntityTooLarge):
        raise
    except Exception as error:  # each WSGI server has its own for a malformed body
        raise BadRequest(f"malformed request body: {error}") from error
    # Werkzeug cuts a chunked body at the limit, and refuses any other one over it
    if request.content_length is None and len(body) >= limits.max_bytes:
        raise RequestEntityTooLarge
    return body


def bulk_images(body: bytes, limits: Limits) -> Images:
    """Parse a bulk body as images (N, 28, 28)."""
    images = PARSERS[request.mimetype](body)
    if len(images) > limits.max_images:
        raise RequestEntityTooLarge(
            f"the body has {len(images):,} images; send at most {limits.max_images:,}"
        )
    if not len(images):
        raise BadRequest("no image in the request")
    return images


def pictures(body: bytes, limits: Limits) -> list[bytes]:
    """Return the picture files of the request, at least one."""
    if request.mimetype == "multipart/form-data":
        files = request.environ.get(UPLOADS) or plain_files(
            request.headers["Content-Type"], body, limits.max_pictures
        )
        files = files or _form_files(limits)
    elif request.mimetype.startswith("image/") or not body:
        files = [body]
    else:
        raise UnsupportedMediaType(
            f"unsupported content type {request.mimetype!r}; send multipart/form-data "
            "with the picture in 'image', a picture as image/*, or images in bulk as "
            + " or ".join(PARSERS)
        )
    if not any(files):
        raise BadRequest(f"no picture in the request; try {CURL}")
    return files


def _form_files(limits: Limits) -> list[bytes]:
    """Return the files of any form that Werkzeug can parse, all of one field."""
    _check_other_fields(limits)
    fields = [name for name in FIELDS if request.files.getlist(name)]
    if len(fields) > 1:
        raise BadRequest(
            "the form has files in both 'image' and 'file', so their order is "
            "unknown; send all of them in 'image'"
        )
    if not fields:
        raise BadRequest(
            f"no file in the form's field 'image' or 'file' ({_fields_found()}); try " + CURL
        )
    files = [(file.filename, file.read()) for file in request.files.getlist(fields[0])]
    # a browser sends neither a name nor content if no file was chosen
    contents = [content for name, content in files if name or content] or [b""]
    if len(contents) > limits.max_pictures:
        raise RequestEntityTooLarge(
            f"the form has {len(contents):,} pictures; send at most {limits.max_pictures:,}"
        )
    return contents


def _check_other_fields(limits: Limits) -> None:
    values = [value for _, values in request.form.lists() for value in values]
    n_bytes = sum(len(value.encode()) for value in values)
    if len(values) > limits.max_fields or n_bytes > limits.max_field_bytes:
        raise RequestEntityTooLarge(
            f"the form has {len(values):,} fields of {n_bytes:,} bytes besides its pictures; "
            f"send at most {limits.max_fields:,} of {limits.max_field_bytes:,} bytes"
        )


def _fields_found() -> str:
    # the name of a part without one is None
    names = sorted(map(str, {*request.files, *request.form}))
    if not names:
        return "no readable field: does the boundary match the Content-Type?"
    shown = ", ".join(repr(name[:SHOWN]) for name in names[:N_SHOWN])
    n_more = len(names) - N_SHOWN
    return f"fields: {shown}" + (f" and {n_more} more" if n_more > 0 else "")
