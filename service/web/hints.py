"""Hints about what a client sent in place of a picture, by the first bytes."""

import re

N_SEARCHED = 256  # bytes; all of them are printable in a text

# what a client may send in place of a picture, and what to do instead
_BINARY = {
    rb"\x89PNG": "a PNG whose line breaks were changed; send its bytes unchanged, "
    "with curl as --data-binary and not as -d",
    rb"\x1f\x8b\x08|BZh\d|\xfd7zXZ|\x28\xb5\x2f\xfd": "compressed data; decompress it first",
    rb"PK\x03\x04": "a ZIP archive, as .npz and Office files are; send the pictures inside it",
    rb"\0\0\x08[\x01-\x04]\0": "an IDX file, as MNIST's are; send the bytes of its images without "
    "the header of 16 bytes",
}
_TEXT = {
    rb"\s*data:[^,]*,": 'a data: URI of base64; send it as JSON, {"image": "data:…"}, '
    "or decode it and send the bytes",
    rb"\s*(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk[0-9A-Za-z+/]{10})": "a picture in base64; send it "
    'as JSON, {"image": "…"}, or decode it and send the bytes',
    rb"\s*[\[{]": "JSON; send it as the body of the request, with the type application/json",
    rb"--[^\r\n]+\r\nContent-Disposition: ": "a form; send its Content-Type, with the boundary",
    rb"\s*https?://": "a URL; the service downloads nothing, so send the picture itself",
    rb"[\w.-]+=": "a URL-encoded form; send multipart/form-data, with curl as -F",
}


def hint(content: bytes, may_be_text: bool = True) -> str:
    """Return "; it looks like ..." and what to do, or "" for unknown content."""
    start = content[:N_SEARCHED]
    kinds = _BINARY | _TEXT if may_be_text else _BINARY
    found = (text for pattern, text in kinds.items() if re.match(pattern, start))
    return next((f"; it looks like {text}" for text in found), "")
