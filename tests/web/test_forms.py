"""The parser of plain forms, held to Werkzeug's on the same bytes."""

import io
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.formparser import MultiPartParser, parse_form_data

from service.web.forms import Part, all_parts, plain_files

TYPE = "multipart/form-data; boundary=b"
HEAD = b'Content-Disposition: form-data; name="image"; filename="7.png"'


def form(*files: bytes, head: bytes = HEAD, boundary: bytes = b"b") -> bytes:
    parts = [b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, head, file) for file in files]
    return b"".join(parts) + b"--%s--\r\n" % boundary


NAMELESS = b'Content-Disposition: form-data; name="image"'


class BytesParser(MultiPartParser):
    """Werkzeug's parser, whose fields can be turned back into bytes."""

    def get_part_charset(self, headers: Headers) -> str:
        return "latin-1"


def parts_of_werkzeug(body: bytes) -> list[tuple[str | None, str | None, bytes]]:
    """Return the names, filenames and contents of all parts, or raise."""
    fields, files = BytesParser(lambda **_: io.BytesIO()).parse(io.BytesIO(body), b"b", len(body))
    found = [(n, None, value.encode("latin-1")) for n, value in fields.items(multi=True)]
    return found + [(n, f.filename, f.read()) for n, f in files.items(multi=True)]


def werkzeug_files(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Return all fields and files that Werkzeug finds in a form, or raise."""
    environ = {
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": content_type,
        "REQUEST_METHOD": "POST",
    }
    _, fields, files = parse_form_data(environ, silent=False)
    found = [(f"field {name}", value) for name, value in fields.items(multi=True)]
    for name, file in files.items(multi=True):
        with file.stream:
            found.append((name, file.read()))
    return found


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        HEAD + b"\r\nContent-Type: image/png",  # curl's and the browsers'
        HEAD.replace(b"image", b"file"),
        HEAD.replace(b"7.png", b"a; name=x, b's=(1).png"),
        HEAD.replace(b"7.png", b"%22 and %41.png"),
    ],
)
@pytest.mark.parametrize("files", [[b"one"], [b"", b"\r\n", b"--c", b"\r"]])
def test_plain_form_is_parsed_as_werkzeug_parses_it(head, files):
    body = form(*files, head=head)

    found = plain_files(TYPE, body, most=9)

    assert [part.content for part in found] == files
    assert found == all_parts("b", body, most=9)
    assert [file for _, file in werkzeug_files(TYPE, body)] == files


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/png", form(b"x")),
        ("multipart/form-data", form(b"x")),
        ('multipart/form-data; boundary="b"', form(b"x")),
        ("multipart/form-data; boundary=b; charset=utf-8", form(b"x")),
        (TYPE, b""),
        (TYPE, b"--b--\r\n"),
        (TYPE, b"preamble\r\n" + form(b"x")),
        (TYPE, form(b"x") + b"epilogue"),
        (TYPE, form(b"x")[:-4]),
        (TYPE, form(b"x\n--b\r\n")),  # a delimiter to a lenient reader
        (TYPE, form(b"x\r\n--b \r\n")),
        (TYPE, form(b"x\r\n--bb\r\n")),
        (TYPE, form(b"x", head=HEAD.replace(b"image", b"note"))),
        (TYPE, form(b"x", head=b'Content-Disposition: form-data; name="image"')),
        (TYPE, form(b"x", head=HEAD.replace(b"7.png", b""))),
        (TYPE, form(b"x", head=HEAD.replace(b"7.png", b'a\\"b'))),
        (TYPE, form(b"x", head=HEAD.replace(b"7.png", "ü".encode()))),
        (TYPE, form(b"x", head=HEAD.replace(b"7.png", b"a\r\nX: y"))),
        (TYPE, form(b"x", head=HEAD + b"\r\nContent-Transfer-Encoding: base64")),
        (TYPE, form(b"x", head=HEAD.lower())),
        (TYPE, form(b"x", b"y") + form(b"z")),
        (TYPE, form(*[b"x"] * 10)),
        (TYPE, form(b"x")[:-5] + form(b"y", head=HEAD.replace(b"image", b"file"))[2:]),
    ],
)
def test_any_other_form_is_left_to_werkzeug(content_type, body):
    assert plain_files(content_type, body, most=9) is None


PIECES = st.sampled_from(
    [
        b"--b",
        b"--b\r\n",
        b"\r\n--b\r\n",
        b"\r\n--b--",
        b"\r\n--b--\r\n",
        b"\n--b\r\n",
        b"\r--b--",
        b"--bb",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b" ",
        b"\0",
        HEAD,
        HEAD + b"\r\n\r\n",
        HEAD.replace(b"image", b"file") + b"\r\n\r\n",
        NAMELESS + b"\r\n\r\n",
        NAMELESS + b"\r\n\r\n\x89PNG\r\n\x1a\n",
        b"\r\nContent-Type: image/png\r\n\r\n",
        b"\r\nContent-Type: image/png",
        b"x",
        b"\x89PNG\r\n\x1a\n",
    ]
) | st.binary(max_size=6)


@settings(max_examples=1_000, deadline=None)
@example([b"--b\r\n", HEAD, b"\r\n\r\n", b"x", b"\r\n--b--"])
@given(st.lists(PIECES, max_size=12))
def test_both_parsers_agree_on_any_bytes(pieces):
    inside = b"".join(pieces)
    for body in (inside, form(inside), form(b"x", inside), b"--b\r\n" + inside):
        found = plain_files(TYPE, body, most=9)
        if found is not None:
            assert all_parts("b", body, most=9) == found
            assert {part.name for part in found} <= {"image", "file"}
            assert all(part.is_picture for part in found)


@settings(max_examples=500, deadline=None)
@example([b"--b\r\n", NAMELESS, b"\r\n\r\n", b"\xff\xfe", b"\r\n--b--"])
@given(st.lists(PIECES, max_size=12))
def test_parts_of_any_form_are_those_of_werkzeug(pieces):
    for body in (b"".join(pieces), form(b"".join(pieces)), b"--b\r\n" + b"".join(pieces)):
        try:
            theirs = parts_of_werkzeug(body)
        except UnicodeDecodeError:
            continue  # Werkzeug reads no head that is not UTF-8
        except ValueError as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                all_parts("b", body, most=20)
            continue
        ours = all_parts("b", body, most=20)
        # Werkzeug lists the fields first, and groups them by their name
        assert sorted(map(repr, map(tuple, ours))) == sorted(map(repr, theirs))


@pytest.mark.parametrize("filename", ["ä.png".encode("latin-1"), "七.png".encode("gbk")])
def test_filename_in_another_encoding_does_not_hide_the_file(filename):
    head = b'Content-Disposition: form-data; name="image"; filename="' + filename + b'"'

    (part,) = all_parts("b", form(b"content", head=head), most=9)

    assert (part.name, part.content) == ("image", b"content")
    assert part.is_picture


def test_head_of_a_part_is_limited(client):
    body = b"--b\r\n" + b"a:\n" * 5_000_000 + b"\n\nx\r\n--b--"

    reply = client.post("/predict", data=body, content_type="multipart/form-data; boundary=b")

    assert reply.status_code == 431
    assert "headers of 14,999,999 bytes; send at most 2,048" in reply.json["detail"]


def test_part_without_a_filename_is_a_picture_by_its_content_alone():
    png = b"\x89PNG\r\n\x1a\n\xff\xfe"

    found = plain_files(TYPE, form(png, png, head=NAMELESS), most=9)
    assert found == [Part("image", None, png)] * 2
    assert plain_files(TYPE, form(b"digit.png", head=NAMELESS), most=9) is None
    assert [part.is_picture for part in all_parts("b", form(png, b"x", head=NAMELESS), 9)] == [
        True,
        False,
    ]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_both_parsers_agree_on_damaged_forms(data):
    body = bytearray(form(b"\x89PNG\r\n\x1a\n", b"x", head=HEAD))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 4))] = data.draw(PIECES)

    found = plain_files(TYPE, bytes(body), most=9)

    if found is not None:
        assert all_parts("b", bytes(body), most=9) == found
        # Werkzeug takes a part without a filename for text, and lists it first
        contents = [content for _, content in werkzeug_files(TYPE, bytes(body))]
        assert len(contents) == len(found)
        files = [content for content in contents if isinstance(content, bytes)]
        assert files == [part.content for part in found if part.filename]


def test_both_parsers_agree_on_files_larger_than_werkzeugs_buffer():
    file = bytes(range(256)) * 1_000

    found = plain_files(TYPE, form(file, file), most=2)
    assert [part.content for part in found] == [file, file]
    assert [f for _, f in werkzeug_files(TYPE, form(file, file))] == [file, file]
