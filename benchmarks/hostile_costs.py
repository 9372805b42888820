"""Search for the upload that takes the most CPU or memory to read.

python -m benchmarks.hostile_costs    (--minutes 20, --seed 0, --keep FOLDER)

Random files with large pictures, dense data, repeated, padded, truncated and corrupted
parts are made one at a time. Each is read in a fresh process, which reports its CPU time
and its peak memory. The worst files of each kind are printed, and written to FOLDER.
"""

import argparse
import functools
import io
import json
import os
import re
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from benchmarks.hostile import SIGNATURE, chunk
from service.images import InvalidImage, read_image
from service.settings import DEFAULT_LIMITS

MAX_BYTES, MAX_PIXELS = DEFAULT_LIMITS.max_bytes, DEFAULT_LIMITS.max_pixels
SIDES = (1, 5, 28, 64, 256, 1023, 2040, 3500, 5000, 16_000, 65_535, 5_000_000)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
Rng = np.random.Generator


def size(rng: Rng, most: int = 65_535) -> tuple[int, int]:
    """Choose a width and height of up to MAX_PIXELS, usually as large as allowed."""
    width = min(int(rng.choice(SIDES)), most)
    height = min(MAX_PIXELS // width, int(rng.choice((width, 10**9))), most)
    return (width, height) if rng.random() < 0.5 else (height, width)


def picture(rng: Rng, most: int = 65_535) -> Image.Image:
    """Draw noise, texture, dots or nothing, in a random mode."""
    width, height = size(rng, most)
    style = rng.integers(4)
    tile = rng.integers(0, rng.choice((2, 4, 32, 256)), (256, 256, 3), dtype=np.uint8)
    if style == 0:
        tile[:] = 200
    elif style == 1:
        step = int(rng.integers(2, 12))
        tile[:], tile[::step, ::step] = 255, 0
    tile = np.tile(tile, (min(height, 5000) // 256 + 1, min(width, 5000) // 256 + 1, 1))
    drawn = Image.fromarray(tile[:height, :width]).resize((width, height), 0)
    return drawn.convert(str(rng.choice(MODES)))


def saved(drawn: Image.Image, kind: str, modes: tuple[str, ...], **options: object) -> bytes:
    """Save a picture; convert it to RGB if its mode is not in modes."""
    file = io.BytesIO()
    drawn = drawn if drawn.mode in modes else drawn.convert("RGB")
    drawn.save(file, kind, **options)
    return file.getvalue()


def png(rng: Rng) -> bytes:
    """Make a PNG whose pixels deflate well, or whose data inflates to nothing."""
    width, height = size(rng, 5_000_000)
    depth, colour = ((1, 0), (8, 0), (16, 0), (8, 3), (8, 2), (16, 2), (8, 6), (16, 6))[
        rng.integers(8)
    ]
    row_bytes = width * depth * {0: 1, 2: 3, 3: 1, 6: 4}[colour] // 8 + 1
    row = rng.integers(0, rng.choice((1, 2, 4, 64)), row_bytes, dtype=np.uint8)
    row[0] = rng.integers(5)
    deflate = zlib.compressobj(1)
    data = b"".join(deflate.compress(row.tobytes()) for _ in range(height)) + deflate.flush()
    if rng.random() < 0.2:
        data = EMPTY_BLOCKS
    pieces = int(rng.choice((1, 1, 1000)))
    step = len(data) // pieces + 1
    header = struct.pack(">II5B", width, height, depth, colour, 0, 0, rng.integers(2))
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    parts = [chunk(b"IDAT", data[at : at + step]) for at in range(0, len(data), step)]
    return b"".join((SIGNATURE, chunk(b"IHDR", header), palette, *parts, chunk(b"IEND", b"")))


def jpeg(rng: Rng) -> bytes:
    """Make a JPEG of dense data, perhaps with its scans repeated or its end missing."""
    if rng.random() < 0.3:
        return random_scans(rng)
    whole = saved(
        picture(rng),
        "JPEG",
        ("L", "RGB", "CMYK"),
        quality=int(rng.choice((5, 30, 75, 95, 100))),
        subsampling=int(rng.choice((0, 2))),
        progressive=bool(rng.integers(2)),
        restart_marker_blocks=int(rng.choice((0, 0, 1))),
    )
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    whole = whole[:-2] + scan * int(rng.choice((0, 0, 3, 10, 50)))
    return whole + (b"\xff\xd9" if rng.random() < 0.6 else b"")


def random_scans(rng: Rng) -> bytes:
    """Make a JPEG in arithmetic coding of random data, sequential or progressive."""
    frame = int(rng.choice((0xC9, 0xCA)))
    width, height = size(rng)
    scans = [(0, 63, 0)]
    if frame == 0xCA:
        scans = [(0, 0, 0), (1, 63, 3), (1, 63, 0x32), (1, 63, 0x21), (1, 63, 0x10)]
    data = rng.integers(0, 255, MAX_BYTES // len(scans) - 100, dtype=np.uint8).tobytes()
    header = b"\xff\xd8\xff\xdb\0\x43\0" + bytes([1] * 64) + bytes([0xFF, frame])
    header += struct.pack(">HBHHB3B", 11, 8, height, width, 1, 1, 0x11, 0)
    heads = (b"\xff\xda\0\x08\1\1\0" + bytes(scan) for scan in scans)
    return header + b"".join(head + data for head in heads) + b"\xff\xd9"


def gif(rng: Rng) -> bytes:
    """Make a GIF of a picture, or of clear codes in a large frame."""
    if rng.random() < 0.5:
        return saved(picture(rng), "GIF", ("1", "L", "P", "RGB"))
    width, height = size(rng)
    head = struct.pack("<6s2H3B", b"GIF89a", width, height, 0x80, 0, 0) + bytes(6)
    control = b"!\xf9\4\x09\0\0\0\0"
    frame = b"," + struct.pack("<4HB", 0, 0, width, height, 0) + b"\2"
    length = int(rng.choice((1, 254, 255)))
    block = bytes([length]) + bytes(rng.choice((0x24, 0x49, 0x92), length).tolist())
    return head + control + frame + block * (MAX_BYTES // len(block)) + b"\0;"


def webp(rng: Rng) -> bytes:
    """Make a WEBP, lossy, lossless or animated."""
    lossless = bool(rng.integers(2))
    drawn = picture(rng, 16_000)
    more = [Image.new("RGB", drawn.size, "red")] if rng.random() < 0.2 else []
    options = {"save_all": True, "append_images": more} if more else {}
    quality = 0 if lossless else int(rng.choice((1, 50, 100)))
    modes = ("RGB", "RGBA")
    return saved(drawn, "WEBP", modes, lossless=lossless, quality=quality, method=0, **options)


def bmp(rng: Rng) -> bytes:
    """Make a BMP, perhaps of another bit depth or compression than its pixels."""
    whole = bytearray(saved(picture(rng), "BMP", ("1", "L", "P", "RGB", "RGBA")))
    if rng.random() < 0.5:
        whole[28:30] = struct.pack("<H", rng.choice((1, 4, 8, 16, 24, 32)))
        whole[30:34] = struct.pack("<I", rng.choice((0, 0, 1, 2, 3, 6)))
    return bytes(whole)


def mutated(whole: bytes, rng: Rng) -> bytes:
    """Repeat, pad, move, truncate or overwrite a part of a file."""
    start, end = sorted(rng.integers(0, len(whole) + 1, 2).tolist())
    room = max(0, MAX_BYTES - len(whole))
    part = whole[start : min(end, start + int(rng.choice((8, 64, 4096, MAX_BYTES))))]
    match rng.integers(8):
        case 0:
            return whole[:start] + part * (room // max(1, len(part)))
        case 1:
            return whole[:start] + bytes([rng.choice((0, 255))]) * room + whole[start:]
        case 2:
            return whole[:end]
        case 3:
            huge = bytes(rng.choice((0, 1, 127, 255), 4).tolist())
            return whole[:start] + huge + whole[start + 4 :]
        case 4:
            at = int(rng.integers(0, min(len(whole), 64)))
            return whole[:at] + bytes([rng.integers(256)]) + whole[at + 1 :]
        case _:
            return whole


def empty_blocks() -> bytes:
    """Return deflate data of 16 MiB in dynamic blocks of 92 bits without any content."""
    bits, at = 0, 0
    lengths = [int(symbol in (18, 1, 0)) + (symbol in (1, 0)) for symbol in CODE_ORDER]
    fields = [(0, 1), (2, 2), (0, 5), (0, 5), (14, 4), *((length, 3) for length in lengths)]
    # 256 literals without a code, the end's code of 1 bit, no distance; the end
    fields += [(0, 1), (127, 7), (0, 1), (107, 7), (3, 2), (1, 2), (0, 1)]
    for value, n in fields * 2:  # two blocks fill whole bytes
        bits |= value << at
        at += n
    block = bits.to_bytes(at // 8, "little")
    return b"\x78\x9c" + block * (MAX_BYTES // len(block) - 10)


CODE_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
EMPTY_BLOCKS = empty_blocks()
MAKERS: tuple[Callable[[Rng], bytes], ...] = (png, jpeg, gif, webp, bmp)


def in_child(work: Callable[[], object]) -> Any:
    """Run work in a forked process; return its result, or None if the process died."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(result) if result else None


def make(seed: int, file: Path) -> str:
    """Write the file of a seed; return the name of its kind."""
    ImageFile.MAXBLOCK = 2**26  # bytes that Pillow's encoders may need at once
    rng = np.random.default_rng(seed)
    maker = MAKERS[rng.integers(len(MAKERS))]
    file.write_bytes(mutated(maker(rng), rng)[:MAX_BYTES])
    return maker.__name__


def cost(file: Path) -> tuple[float, int, str]:
    """Read a file; return the seconds of CPU, the peak in MB, and the outcome."""
    upload = file.read_bytes()
    start = time.process_time()
    try:
        read_image(upload, MAX_PIXELS)
        outcome = "read"
    except InvalidImage as error:
        outcome = str(error)
    seconds = time.process_time() - start
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return seconds, int(found[1]) // 1024 if found else 0, outcome


def main() -> None:
    """Search, and print each file that costs more than all earlier ones of its kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    worst: dict[tuple[str, str], float] = {}
    seed = options.seed
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "upload"
        while time.monotonic() < end:
            seed += 1
            kind = in_child(functools.partial(make, seed, file))
            if kind is None:  # the encoder refused
                continue
            measured = in_child(functools.partial(cost, file))
            seconds, peak, outcome = measured or (float("inf"), 0, "the process died")
            for figure, value in (("s of CPU", seconds), ("MB", peak)):
                if value > worst.get((str(kind), figure), 0):
                    worst[str(kind), figure] = value
                    size = file.stat().st_size
                    print(f"{kind} {seed}: {value:.2f} {figure}, {size:,} bytes: {outcome[:70]}")
                    if options.keep:
                        (options.keep / f"{kind}-{figure[:2].strip()}").write_bytes(
                            file.read_bytes()
                        )
    print(f"{seed - options.seed} files")
    for (name, figure), value in sorted(worst.items()):
        print(f"{name}: at most {value:.2f} {figure}")


if __name__ == "__main__":
    main()
