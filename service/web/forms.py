"""The plain form, which nearly every client sends, taken apart without a parser."""

import re

# Only what cannot be read in two ways is read here. For all else there is a parser.
_TYPE = re.compile(r"multipart/form-data; ?boundary=([\w'.+-]{1,70})", re.ASCII)
_HEAD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="(image|file)"; '
    rb'filename="[ !#-\[\]-~]+"'
    rb"(?:\r\nContent-Type: [\w.+-]+/[\w.+-]+)?",
    re.ASCII,
)
_ENDS = (b"--", b"--\r\n")


def plain_files(content_type: str, body: bytes, most: int) -> list[bytes] | None:
    """Take the files out of a form of at most `most` parts, all of them pictures.

    None if the form is anything but plain, be it malformed or merely unusual: another
    field, two fields' files mixed, a line break or a header that need not be there.
    """
    boundary = _TYPE.fullmatch(content_type)
    if not boundary:
        return None
    mark = b"--" + boundary[1].encode()
    parts = (b"\r\n" + body).split(b"\r\n" + mark)
    # the mark anywhere else might be a delimiter, to a lenient reader
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
