"""Files of every format: what is read of them, and what is refused."""

import io
import itertools
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmarks.hostile import SIGNATURE, chunk, png
from service.images import read_image, read_mnist_png
from service.reading.containers.container import MAX_PARTS
from service.reading.containers.formats import FORMATS, open_container
from service.reading.decode import MAX_SIDE, _pixels, decode
from service.reading.errors import InvalidImage, UnknownFormat
from tests.conftest import encode

MIB = 2**20


@pytest.fixture(scope="module")
def sheet() -> Image.Image:
    """A white sheet with a stroke across noise, so that no part of its file is empty."""
    levels = np.random.default_rng(0).integers(225, 256, (120, 90), dtype=np.uint8)
    levels[20:100, 40:50] = 10
    return Image.fromarray(levels)


def assert_reads_as(upload: bytes, expected: bytes):
    np.testing.assert_array_equal(read_image(upload), read_image(expected))


def with_chunks(whole: bytes, chunks: bytes) -> bytes:
    """Return a PNG with more chunks after its header."""
    return whole[:33] + chunks + whole[33:]


def segment(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def bmp(size: tuple[int, int], compression: int, pixels: bytes, alpha: bool = False) -> bytes:
    """Return a BMP of version 4: of bytes, or with alpha of BGRA."""
    bits = 32 if alpha else 8
    table = b"" if alpha else bytes(1024)
    header = struct.pack("<IiiHHIIiiII", 108, *size, 1, bits, compression, 0, 0, 0, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000).ljust(68, b"\0")
    start = 14 + len(header) + len(masks) + len(table)
    file = struct.pack("<2sI4xI", b"BM", start + len(pixels), start)
    return file + header + masks + table + pixels


# What lies beside the pixels


@pytest.mark.parametrize(
    "junk",
    [
        chunk(b"tEXt", b"Comment\0" + b"x" * (3 * MIB // 2)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * (3 * MIB // 2)),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(8 * MIB))),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(MIB))) * 500,
        chunk(b"iCCP", b"profile"),
        chunk(b"eXIf", b"MM\0*" + bytes(40)),
        chunk(b"eXIf", bytes(40)),
        chunk(b"acTL", bytes(3)),
        chunk(b"tIME", b"x")[:-4] + b"bad!",
    ],
)
def test_chunks_beside_the_pixels_of_a_png_are_ignored(junk, sheet):
    whole = encode(sheet)

    assert_reads_as(with_chunks(whole, junk), whole)


@pytest.mark.parametrize(
    "junk",
    [
        segment(0xE1, b"Exif\0\0" + bytes(40)),
        # an orientation of two values, and one that is text
        segment(0xE1, b"Exif\0\0MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x112, 3, 2, 6, 6)),
        segment(0xE1, b"Exif\0\0MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x112, 2, 1, 6, 0)),
        segment(0xE2, b"MPF\0MM\0*" + struct.pack(">IH", 8, 5000) + b"\xb0\2\0\7" * 9000),
        segment(0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 60_000) * 20,
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed\0\0\0\0\0\1x"),
        segment(0xFE, b"") * 1_000,
        b"\xff" * MIB,
    ],
)
def test_segments_beside_the_pixels_of_a_jpeg_are_ignored(junk, sheet):
    whole = encode(sheet, "JPEG")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_reads_as(whole[:2] + junk + whole[2:], whole)


@pytest.mark.parametrize(("kind", "value"), [(3, b"\6\0\0\0"), (4, b"\6\0\0\0")])
def test_orientation_is_a_short_or_a_long_number(kind, value, sheet):
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x112, kind, 1) + value
    whole = encode(sheet, "JPEG")

    turned = decode(whole[:2] + segment(0xE1, exif) + whole[2:])

    np.testing.assert_array_equal(turned, decode(whole).transpose(Image.Transpose.ROTATE_270))


@pytest.mark.parametrize("kind", FORMATS)
def test_bytes_after_the_end_are_ignored(kind, sheet):
    whole = encode(sheet, kind)

    assert_reads_as(whole + b"\xff\xd8\xff junk" * 100, whole)


def test_a_bmp_whose_opacity_is_all_zero_is_opaque(sheet):
    pixels = np.asarray(sheet.convert("RGBA")).copy()[::-1]
    pixels[..., 3] = 0

    upload = bmp(sheet.size, 3, pixels.tobytes(), alpha=True)

    assert_reads_as(upload, encode(sheet.convert("RGB")))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_a_jpeg_without_its_end_marker_is_read_and_a_truncated_one_is_not(options, sheet):
    whole = encode(sheet, "JPEG", **options)

    assert_reads_as(whole[:-2], whole)
    for share in (0.5, 0.7, 0.9, 0.98):
        with pytest.raises(InvalidImage, match="damaged"):
            read_image(whole[: int(share * len(whole))])


def test_the_first_frame_of_a_webp_keeps_its_place_on_the_canvas(sheet):
    frames = [sheet.convert("RGB"), Image.new("RGB", sheet.size, "red")]
    whole = encode(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:])

    assert_reads_as(whole, encode(frames[0]))


# What is refused, and before it costs anything


def repeated(kind: str) -> bytes:
    """Return a file of more parts than a picture has."""
    picture = Image.new("L", (64, 64), 200)
    whole = encode(picture, kind, **({"progressive": True} if kind == "JPEG" else {}))
    return {
        "PNG": with_chunks(whole, chunk(b"prIv", b"") * (MAX_PARTS + 1)),
        "JPEG": whole[:2] + b"\xff\xfe\0\2" * (MAX_PARTS + 1) + whole[2:],
        "GIF": whole[:13] + b"!\xfe\1x\0" * (MAX_PARTS + 1) + whole[13:],
        "WEBP": whole[:12] + (b"JUNK" + bytes(4)) * (MAX_PARTS + 1) + whole[12:],
    }[kind]


def test_bytes_between_the_blocks_of_a_gif_count_as_parts():
    whole = encode(Image.new("L", (64, 64), 200), "GIF")

    with pytest.raises(InvalidImage, match=f"more than {MAX_PARTS:,} GIF"):
        open_container(whole[:13] + b"\0" * (MAX_PARTS + 1) + whole[13:])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_file_of_more_parts_than_a_picture_has_is_refused(kind):
    with pytest.raises(InvalidImage, match=f"more than {MAX_PARTS:,} {kind}"):
        open_container(repeated(kind))


def test_a_jpeg_of_more_scans_than_its_pixels_allow_is_refused():
    small = encode(Image.new("L", (64, 64), 200), "JPEG", progressive=True)
    large = encode(Image.new("L", (5000, 5000)), "JPEG", progressive=True)

    for whole, n in ((small, 100), (large, 20)):
        scan = whole[whole.rindex(b"\xff\xda") : -2]
        with pytest.raises(InvalidImage, match="scans"):
            open_container(whole[:-2] + scan * n + whole[-2:])


@pytest.mark.parametrize(
    "upload",
    [
        png(1, 25_000_000, rows=b""),
        png(25_000_000, 1, 16, 6, rows=b""),
        bmp((25_000_000, 1), 0, b""),
    ],
)
def test_a_picture_with_a_side_that_no_camera_makes_is_refused(upload):
    with pytest.raises(InvalidImage, match=f"at most {MAX_SIDE:,} on a side"):
        decode(upload, 25_000_000)


def test_a_picture_whose_decoding_takes_much_memory_is_refused():
    blank = Image.new("RGB", (4999, 4999))
    frames = [Image.new("RGB", blank.size, colour) for colour in ("red", "blue")]
    animated = encode(blank, "WEBP", lossless=True, save_all=True, append_images=frames)
    layers = encode(Image.new("CMYK", (5000, 5500)), "JPEG", progressive=True)

    for upload in (animated, layers, png(8000, 8000, 8, 6, rows=b"")):
        with pytest.raises(InvalidImage, match="MB of memory; at most 210 MB"):
            decode(upload)


def of_many_groups(side: int) -> bytes:
    """Return VP8L data with a group of prefix codes for each block of 4 x 4 pixels."""
    bits: list[tuple[int, int]] = [(0, 1), (0, 1), (1, 1), (0, 3), (0, 1)]
    eight = [(0, 1), (8, 4), *[(0, 3)] * 11, (1, 3)]  # all lengths are 8
    single = [(1, 1), (0, 1), (0, 1), (0, 1)]
    bits += [*eight, (1, 1), (3, 3), (254, 8), *eight, (0, 1), *single * 3]
    reverse = [int(f"{value:08b}"[::-1], 2) for value in range(256)]
    n = (side // 4) ** 2
    for i in range(n):
        bits += [(reverse[i & 255], 8), (reverse[i >> 8 & 255], 8)]
    text = "".join(f"{value:0{width}b}"[::-1] for value, width in bits + single * 5 * n)
    return int(text[::-1], 2).to_bytes(len(text) // 8 + 1, "little")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def test_a_webp_of_more_groups_of_prefix_codes_than_encoders_write_is_refused():
    side = 512
    sides = (side - 1) | (side - 1) << 14
    lossless = riff((b"VP8L", b"\x2f" + struct.pack("<I", sides) + of_many_groups(side)))
    frame = encode(Image.new("RGB", (side, side)), "WEBP")[20:]
    extended = struct.pack("<B3xHBHB", 0x10, side - 1, 0, side - 1, 0)
    alpha = riff((b"VP8X", extended), (b"ALPH", b"\1" + of_many_groups(side)), (b"VP8 ", frame))

    for upload in (lossless, alpha):
        with pytest.raises(InvalidImage, match=r"3[23]. MB of memory"):
            decode(upload)


def test_a_webp_with_a_repeated_transform_is_refused_before_the_next_is_skipped():
    side = 512
    # a flag, the predictor, 0 for blocks of 4 pixels, no cache, five codes of one symbol
    transform = "1" + "00" + "000" + "0" + "1000" * 5
    bits = transform * 8 * 100
    data = int(bits[::-1], 2).to_bytes(len(bits) // 8, "little") + bytes(10_000)
    sides = (side - 1) | (side - 1) << 14

    with pytest.raises(InvalidImage, match="repeats a transform"):
        decode(riff((b"VP8L", b"\x2f" + struct.pack("<I", sides) + data)))


def test_only_the_first_compressed_xmp_of_a_png_is_inflated(sheet):
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(MIB), 9)
    upload = with_chunks(encode(sheet), chunk(b"iTXt", text) * 5_000)

    start = time.thread_time()
    open_container(upload)

    assert time.thread_time() - start < 0.5


@pytest.mark.parametrize("method", [0, 3, 6])
def test_a_lossless_webp_of_much_detail_is_read(method):
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((1000, 800))

    upload = encode(photo, "WEBP", lossless=True, method=method)

    assert len(upload) > 300_000
    np.testing.assert_array_equal(decode(upload), photo)


def test_a_gif_whose_frame_is_larger_than_its_screen_is_refused_by_the_frame():
    whole = bytearray(encode(Image.new("L", (64, 64), 200), "GIF"))
    at = whole.index(b",", 13 + 3 * 2)
    whole[at + 5 : at + 9] = b"\x50\xc3" * 2

    with pytest.raises(InvalidImage, match="50000 x 50000 pixels"):
        decode(bytes(whole), 25_000_000)


@pytest.mark.parametrize("compression", [1, 2, 4, 5, 99])
def test_a_compressed_bmp_is_refused_by_name(compression):
    upload = bmp((25_000_000, 1), compression, b"\1\1\0\0\0\1")

    with pytest.raises(UnknownFormat, match=f"BMP with compression {compression}"):
        decode(upload, 25_000_000)


@pytest.mark.parametrize("kind", FORMATS)
def test_decoding_ends_when_its_time_is_over(kind, sheet):
    with pytest.raises(InvalidImage, match="of CPU"):
        decode(encode(sheet, kind), clock=itertools.count().__next__)


def test_decoding_reads_its_clock_for_every_block_of_pixels():
    reads = []

    def clock() -> float:
        reads.append(0)
        return 0.0

    levels = np.random.default_rng(0).integers(0, 256, (1000, 1000), dtype=np.uint8)
    decode(encode(levels), clock=clock)

    assert len(reads) > levels.size // 2**16


def test_empty_blocks_of_a_few_pixels_take_no_more_time_than_a_large_picture():
    blocks = b"\x78\x01" + b"\0\0\0\xff\xff" * 800_000  # zlib's head, and blocks of no bytes
    header = chunk(b"IHDR", struct.pack(">II5B", 5, 5, 8, 2, 0, 0, 0))
    upload = SIGNATURE + header + chunk(b"IDAT", blocks)

    with pytest.raises(InvalidImage, match="of CPU"):
        decode(upload, clock=itertools.count(step=0.05).__next__)


def test_the_fast_path_takes_no_png_with_anything_beside_its_pixels(digits):
    whole = encode(digits.test.images[0])
    bomb = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(MIB))) * 20

    assert read_mnist_png(whole) is not None
    for upload in (with_chunks(whole, bomb), whole + b"x", whole[:-1], SIGNATURE):
        assert read_mnist_png(upload) is None


@pytest.mark.parametrize(
    ("colour", "depth", "mode"),
    [
        *((0, depth, "L") for depth in (1, 2, 4, 8)),
        *((3, depth, "RGB") for depth in (1, 2, 4, 8)),
        *((2, depth, "RGB") for depth in (8, 16)),
        *((colour, depth, "RGBA") for colour in (4, 6) for depth in (8, 16)),
    ],
)
def test_a_large_picture_is_averaged_as_one_piece_would_be(colour, depth, mode):
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row_bytes = (2100 * samples * depth + 7) // 8
    rows = np.random.default_rng(0).integers(0, 256, (1201, row_bytes + 1), dtype=np.uint8)
    rows[:, 0] = 0
    palette = chunk(b"PLTE", rows[:1, 1:769].tobytes()) if colour == 3 else b""
    upload = png(2100, 1201, depth, colour, rows=rows.tobytes(), before=palette)
    container = open_container(upload)

    picture = _pixels("PNG", container.content, lambda: 0.0, 1.0)

    whole = Image.open(io.BytesIO(upload)).convert(mode).reduce(2)
    np.testing.assert_array_equal(picture, whole)


# Other formats


@pytest.mark.parametrize(
    ("upload", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\0\0\x1cftypmp42\0\0\0\0", "a video"),
        (b"II*\0\x08\0\0\0", "a TIFF picture"),
        (b"MM\0*\0\0\0\x08", "a TIFF picture"),
        (b"\0\0\1\0\1\0", "an icon"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL picture"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x93NUMPY\1\0", "a NumPy array"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg/>', "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a sound or a video"),
    ],
)
def test_a_format_that_is_not_read_is_named(upload, name):
    with pytest.raises(UnknownFormat) as caught:
        read_image(upload + bytes(20))

    assert f"the file is {name}" in str(caught.value)
    assert "send PNG, JPEG" in str(caught.value)


def test_comments_before_an_unknown_element_are_searched_in_linear_time():
    start = time.thread_time()
    with pytest.raises(UnknownFormat):
        open_container(b"<!---->" * 70)

    assert time.thread_time() - start < 0.5
