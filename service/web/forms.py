"""Parser for the plain multipart forms that nearly every client sends."""

import re

# Only forms that cannot be read in two ways; Werkzeug's parser reads all others.
_TYPE = re.compile(r"multipart/form-data; ?boundary=([\w'.+-]{1,70})", re.ASCII)
_HEAD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="(image|file)"; '
    rb'filename="[ !#-\[\]-~]+"'
    rb"(?:\r\nContent-Type: [\w.+-]+/[\w.+-]+)?",
    re.ASCII,
)
_ENDS = (b"--", b"--\r\n")


def plain_files(content_type: str, body: bytes, most: int) -> list[bytes] | None:
    """Return the files of a form of at most `most` parts, all of them pictures.

    None if the form is malformed or merely unusual: other fields, files in both fields,
    additional headers or line breaks.
    """
    boundary = _TYPE.fullmatch(content_type)
    if not boundary:
        return None
    mark = b"--" + boundary[1].encode()
    parts = (b"\r\n" + body).split(b"\r\n" + mark)
    # the mark anywhere else might be a delimiter to a lenient parser
    if parts[0] or parts[-1] not in _ENDS or body.count(mark) != len(parts) - 1:
        return None
    if not 0 < len(parts) - 2 <= most:
        return None
    names, files = set(), []
    for part in parts[1:-1]:
        head, blank, file = part.partition(b"\r\n\r\n")
        name = _HEAD.fullmatch(head)
        if not name or not blank:
            return None
        names.add(name[1])
        files.append(file)
    return files if len(names) == 1 else None
