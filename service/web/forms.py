"""Parsers of multipart forms: a strict one for common forms, and one for any form."""

import re
from typing import NamedTuple

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestHeaderFieldsTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from service.images import begins_like_picture

# Only forms that cannot be read in two ways; Werkzeug's parser reads all others.
_TYPE = re.compile(r"multipart/form-data; ?boundary=([\w'.+-]{1,70})", re.ASCII)
_HEAD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="(image|file)"'
    rb'(?:; filename="([ !#-\[\]-~]+)")?'
    rb"(?:\r\nContent-Type: [\w.+-]+/[\w.+-]+)?",
    re.ASCII,
)
_ENDS = (b"--", b"--\r\n")
_STEP = 2**16  # bytes that Werkzeug's decoder searches at once
_MAX_HEAD = 2**11  # bytes of the headers of a part; a line of 3 bytes takes 150 in memory


class _Decoder(MultipartDecoder):
    """Werkzeug's decoder, with a limit on heads, and with names that are not UTF-8."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        if len(data) > _MAX_HEAD:
            raise RequestHeaderFieldsTooLarge(
                f"a part of the form has headers of {len(data):,} bytes; send at most {_MAX_HEAD:,}"
            )
        try:
            return super()._parse_headers(data)
        except UnicodeDecodeError:
            return super()._parse_headers(data.decode("latin-1").encode())


class Part(NamedTuple):
    """A part of a form; name and filename are None if its head has none."""

    name: str | None
    filename: str | None
    content: bytes

    @property
    def is_picture(self) -> bool:
        """Whether it has a filename, or begins like a picture."""
        return self.filename is not None or begins_like_picture(self.content)


def all_parts(boundary: str, body: bytes, most: int) -> list[Part]:
    """Return the parts of any form that Werkzeug can parse, in order.

    Raises ValueError if it is malformed, and RequestEntityTooLarge if it has more than
    `most` parts, and RequestHeaderFieldsTooLarge for a part with long headers.
    """
    decoder = _Decoder(boundary.encode("ascii"), max_parts=most)
    heads: list[Field | File] = []
    contents: list[bytearray] = []
    for start in range(0, len(body) + _STEP, _STEP):
        decoder.receive_data(body[start : start + _STEP] or None)
        while not isinstance(event := decoder.next_event(), (NeedData, Epilogue)):
            if isinstance(event, (Field, File)):
                heads.append(event)
                contents.append(bytearray())
            elif isinstance(event, Data):
                contents[-1] += event.data
    return [
        Part(head.name, getattr(head, "filename", None), bytes(content))
        for head, content in zip(heads, contents, strict=True)
    ]


def plain_files(content_type: str, body: bytes, most: int) -> list[Part] | None:
    """Return the parts of a form of at most `most`, all of them pictures.

    None if the form is malformed or merely unusual: other fields, files in both fields,
    additional headers or line breaks.
    """
    boundary = _TYPE.fullmatch(content_type)
    if not boundary:
        return None
    mark = b"--" + boundary[1].encode()
    start, *parts = body.split(mark, most + 1)  # more marks are left in the end
    end = parts.pop() if parts else b""
    if start or end not in _ENDS or not 0 < len(parts) <= most:
        return None
    names, files = set(), []
    for part in parts:
        # the mark anywhere else might be a delimiter to a lenient parser
        blank = part.find(b"\r\n\r\n", 0, -2)
        if blank < 0 or not part.endswith(b"\r\n"):
            return None
        found, file = _HEAD.fullmatch(part, 0, blank), part[blank + 4 : -2]
        if not found or not (found[2] or begins_like_picture(file)):
            return None
        names.add(found[1])
        # as Werkzeug reads it
        filename = found[2].decode().replace("%22", '"') if found[2] else None
        files.append(Part(found[1].decode(), filename, file))
    return files if len(names) == 1 else None
