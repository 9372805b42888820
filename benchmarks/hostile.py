"""Hostile picture files.

python -m benchmarks.hostile    (writes the files into benchmarks/corpus)

The corpus is committed, so that every run posts the same files with any version of
Pillow.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

CORPUS = Path(__file__).parent / "corpus"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
SEED = 20
SIDE = 40  # pixels of the pictures


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    """Return a PNG chunk; length: the length to claim, if not the real one."""
    size = len(data) if length is None else length
    return struct.pack(">I", size) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int = SIDE,
    height: int = SIDE,
    depth: int = 8,
    colour: int = 0,
    *,
    rows: bytes | None = None,
    before: bytes = b"",
    interlace: int = 0,
) -> bytes:
    """Return a PNG with the given header, whether or not the rows match it."""
    if rows is None:
        rows = (b"\0" + bytes(width)) * height
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return (
        SIGNATURE
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def drawn(kind: str, mode: str = "L", **options: object) -> bytes:
    """Return a valid picture of a stroke in the given file format."""
    levels = np.full((SIDE, SIDE), 255, np.uint8)
    levels[6:34, 18:22] = 0
    file = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def pngs() -> Iterator[tuple[str, bytes]]:
    """Yield PNGs with wrong sizes, rows, palettes, metadata or chunks."""
    yield from _png_sizes()
    yield from _png_palettes()
    yield from _png_metadata()
    yield from _png_chunks()


def _png_sizes() -> Iterator[tuple[str, bytes]]:
    yield "no-chunks", SIGNATURE
    yield "half-a-signature", SIGNATURE[:5]
    yield "huge-square", png(2**31 - 1, 2**31 - 1, rows=b"")
    yield "huge-row", png(2**31 - 1, 1, rows=b"")
    yield "huge-column", png(1, 2**31 - 1, rows=b"")
    yield "just-too-large", png(6000, 6000, 1, rows=b"\0" * 100)
    yield "no-width", png(0, 28, rows=b"")
    yield "no-size", png(0, 0, rows=b"")
    yield "negative-size", png(2**32 - 1, 2**32 - 1, rows=b"")
    yield "no-rows", png(rows=b"")
    yield "one-row", png(rows=bytes(SIDE + 1))
    yield "too-many-rows", png(rows=bytes((SIDE + 1) * 1000))
    yield "unknown-filters", png(rows=(b"\xff" + bytes(SIDE)) * SIDE)
    yield "interlaced-as-3", png(interlace=3)
    yield "interlaced-without-rows", png(interlace=1, rows=b"\0" * 9)
    for depth, colour in ((3, 0), (0, 0), (255, 0), (8, 1), (8, 7), (16, 3), (1, 6)):
        yield f"depth-{depth}-colour-{colour}", png(depth=depth, colour=colour)


def _png_palettes() -> Iterator[tuple[str, bytes]]:
    yield "palette-without-a-palette", png(colour=3)
    yield "palette-of-no-colours", png(colour=3, before=chunk(b"PLTE", b""))
    yield "palette-too-long", png(colour=3, before=chunk(b"PLTE", bytes(3 * 1000)))
    yield "palette-of-half-a-colour", png(colour=3, before=chunk(b"PLTE", b"ab"))
    yield (
        "pixels-beyond-the-palette",
        png(colour=3, before=chunk(b"PLTE", b"abc"), rows=(b"\0" + b"\xff" * SIDE) * SIDE),
    )
    yield "transparency-too-long", png(before=chunk(b"tRNS", bytes(999)))
    yield "transparency-too-short", png(before=chunk(b"tRNS", b"x"))


def _png_metadata() -> Iterator[tuple[str, bytes]]:
    some = zlib.compress(bytes(1000))
    bomb = zlib.compress(bytes(2**22), 9)
    yield "text-bomb", png(before=chunk(b"zTXt", b"k\0\0" + bomb))
    yield "itext-bomb", png(before=chunk(b"iTXt", b"k\0\1\0\0\0" + bomb))
    yield "many-texts", png(before=chunk(b"zTXt", b"k\0\0" + some) * 500)
    yield "profile-bomb", png(before=chunk(b"iCCP", b"k\0\0" + bomb))
    yield "exif-of-noise", png(before=chunk(b"eXIf", b"MM\0*" + b"\xff" * 50))
    yield (
        "exif-that-points-at-itself",
        png(before=chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0")),
    )
    yield "gamma-of-0", png(before=chunk(b"gAMA", bytes(4)))
    yield "animation-of-4-billion", png(before=chunk(b"acTL", b"\xff" * 8))
    yield "animation-without-frames", png(before=chunk(b"acTL", bytes(8)))


def _png_chunks() -> Iterator[tuple[str, bytes]]:
    yield "chunk-longer-than-the-file", SIGNATURE + chunk(b"IHDR", b"x" * 13, 2**31 - 1)
    yield "chunk-of-negative-length", SIGNATURE + chunk(b"IHDR", b"x" * 13, 2**32 - 1)
    yield "unknown-critical-chunk", png(before=chunk(b"EVIL", b"x"))
    yield "chunk-named-by-control-bytes", png(before=chunk(b"\0\n\r\x1b", b"x"))
    yield "two-headers", png(before=chunk(b"IHDR", png()[16:29]))
    yield "many-empty-chunks", png(before=chunk(b"tEXt", b"k\0v") * 900)
    yield (
        "no-header",
        SIGNATURE + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""),
    )
    yield "no-end", png()[:-12]
    yield "junk-after-the-end", png() + b"\xff" * 500
    yield "wrong-checksum", png()[:29] + b"\0\0\0\0" + png()[33:]
    yield (
        "rows-that-do-not-inflate",
        SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 40)
        + chunk(b"IEND", b""),
    )


def jpegs() -> Iterator[tuple[str, bytes]]:
    """Yield JPEGs with wrong sizes, tables, scans or segments."""
    whole = drawn("JPEG")
    frame = whole.index(b"\xff\xc0")
    scan = whole.index(b"\xff\xda")

    def sized(height: int, width: int) -> bytes:
        return whole[: frame + 5] + struct.pack(">HH", height, width) + whole[frame + 9 :]

    yield "huge", sized(65535, 65535)
    yield "no-height", sized(0, SIDE)
    yield "no-width", sized(SIDE, 0)
    yield "taller-than-its-data", sized(4000, SIDE)
    yield "start-alone", b"\xff\xd8"
    yield "start-and-end", b"\xff\xd8\xff\xd9"
    yield "no-scan", whole[:scan] + b"\xff\xd9"
    yield "scan-without-data", whole[: scan + 14] + b"\xff\xd9"
    yield "many-scans", whole[:-2] + whole[scan : scan + 20] * 200 + b"\xff\xd9"
    yield "scans-without-end", whole[:scan] + whole[scan : scan + 14] * 400
    yield "many-comments", b"\xff\xd8" + b"\xff\xfe\0\x03x" * 2000 + whole[2:]
    yield "segment-longer-than-the-file", b"\xff\xd8\xff\xe1\xff\xff" + whole[2:60]
    yield "segment-of-length-0", b"\xff\xd8\xff\xe1\0\0" + whole[2:]
    yield "exif-of-noise", b"\xff\xd8\xff\xe1\0\x20Exif\0\0" + b"\xff" * 24 + whole[2:]
    yield "components-0", whole[: frame + 9] + b"\0" + whole[frame + 10 :]
    yield "components-255", whole[: frame + 9] + b"\xff" + whole[frame + 10 :]
    yield "precision-16", whole[: frame + 4] + b"\x10" + whole[frame + 5 :]
    yield "sampling-of-0", whole[: frame + 11] + b"\0" + whole[frame + 12 :]
    yield "arithmetic-coding", whole.replace(b"\xff\xc0", b"\xff\xc9", 1)
    yield "lossless", whole.replace(b"\xff\xc0", b"\xff\xc3", 1)
    yield "tables-missing", whole.replace(b"\xff\xc4", b"\xff\xfe")
    yield "restarts-only", whole[: scan + 14] + b"\xff\xd0" * 4000 + b"\xff\xd9"
    yield "cmyk-truncated", drawn("JPEG", "CMYK")[:400]


def others() -> Iterator[tuple[str, bytes]]:
    """Yield malformed GIFs, BMPs and WEBPs, and files of other formats."""
    gif, bmp, webp = drawn("GIF"), drawn("BMP"), drawn("WEBP")
    yield "gif-no-size", gif[:6] + bytes(4) + gif[10:]
    yield "gif-huge-screen", gif[:6] + b"\xff" * 4 + gif[10:]
    yield "gif-header-alone", gif[:13]
    yield "gif-without-image", gif[:10] + b"\0\0\0;"
    yield "gif-of-many-empty-frames", gif[:-1] + b"!\xf9\x04\0\0\0\0\0" * 800 + b";"
    yield "gif-of-many-frames", gif[:-1] + gif[gif.index(b",") : -1] * 80 + b";"
    yield "gif-codes-of-12-bits", gif.replace(b"\x08\xff", b"\x0c\xff", 1)
    yield "gif-unknown-extension", gif[:-1] + b"!\xee\xff" + b"x" * 255
    yield "bmp-huge", bmp[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bmp[26:]
    yield "bmp-negative", bmp[:18] + struct.pack("<ii", -40, -(2**31)) + bmp[26:]
    yield "bmp-no-size", bmp[:18] + struct.pack("<ii", 0, 0) + bmp[26:]
    yield "bmp-of-7-bits", bmp[:28] + struct.pack("<H", 7) + bmp[30:]
    yield "bmp-unknown-compression", bmp[:30] + struct.pack("<I", 99) + bmp[34:]
    yield "bmp-runs-beyond-the-row", bmp[:30] + struct.pack("<I", 1) + bmp[34:]
    yield "bmp-pixels-beyond-the-file", bmp[:10] + b"\xff\xff\xff\x7f" + bmp[14:]
    yield "bmp-palette-of-4-billion", bmp[:46] + b"\xff" * 4 + bmp[50:]
    yield "bmp-header-of-4-gib", bmp[:14] + b"\xff" * 4 + bmp[18:]
    yield "webp-size-lies", webp[:4] + b"\xff" * 4 + webp[8:]
    yield "webp-without-chunks", webp[:12]
    yield "webp-chunk-too-long", webp[:16] + b"\xff" * 4 + webp[20:]
    yield "webp-of-another-form", webp[:8] + b"WAVE" + webp[12:]
    yield ("webp-animated-without-frames", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(9))
    for name, start in {
        "tiff": b"II*\0\x08\0\0\0",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "pdf": b"%PDF-1.7\n",
        "psd": b"8BPS\0\1",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
        "svg-entities": b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;">]><x>&b;</x>',
        "zip": b"PK\3\4",
        "gzip": b"\x1f\x8b\x08",
        "elf": b"\x7fELF",
        "pickle": b"\x80\x04cos\nsystem\n(X\x02\0\0\0idtR.",
        "html": b"<!doctype html><script>alert(1)</script>",
        "fits": b"SIMPLE  =                    T",
        "jpeg-2000": b"\0\0\0\x0cjP  \r\n\x87\n",
        "icon": b"\0\0\1\0\1\0",
        "ppm": b"P6 99999 99999 255\n",
        "xbm": b"#define x_width 9999999\n#define x_height 9999999\n",
        "avif": b"\0\0\0\x20ftypavif",
        "nothing-but-zeros": bytes(64),
        "nothing-but-ones": b"\xff" * 64,
        "line-breaks": b"\r\n" * 200,
        "a-boundary": b"\r\n--b--\r\n" * 20,
    }.items():
        yield name, start + bytes(32)


def files() -> dict[str, bytes]:
    """Return all files by name."""
    made = {f"{name}.png": content for name, content in pngs()}
    made |= {f"{name}.jpg": content for name, content in jpegs()}
    made |= {f"{name}.bin": content for name, content in others()}
    return made


def damaged() -> Iterator[tuple[str, bytes]]:
    """Yield valid pictures truncated or with random bytes changed, reproducibly."""
    generator = np.random.default_rng(SEED)
    wholes = {
        "png": drawn("PNG"),
        "palette.png": drawn("PNG", "P"),
        "alpha.png": drawn("PNG", "RGBA"),
        "jpg": drawn("JPEG", "RGB"),
        "progressive.jpg": drawn("JPEG", "RGB", progressive=True),
        "gif": drawn("GIF"),
        "bmp": drawn("BMP"),
        "webp": drawn("WEBP"),
        "lossless.webp": drawn("WEBP", lossless=True),
    }
    for kind, whole in wholes.items():
        for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            yield f"truncated at {share:.0%}.{kind}", whole[: int(share * len(whole))]
        for n in range(1, 9):
            corrupted = bytearray(whole)
            for at in generator.integers(len(corrupted), size=2 * n):
                corrupted[at] = generator.integers(256)
            yield f"{2 * n} bytes changed.{kind}", bytes(corrupted)


def main() -> None:
    """Write the corpus."""
    CORPUS.mkdir(exist_ok=True)
    for name, content in files().items():
        (CORPUS / name).write_bytes(content)


if __name__ == "__main__":
    main()
