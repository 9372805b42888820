"""What reading and scoring cost, beside Pillow's own decoding in the same minute.

python -m benchmarks.costs
"""

import io
import os
import statistics
import time
from collections.abc import Callable

# as in the service's processes, and before numpy is loaded
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from PIL import Image

from service.classifier import load
from service.images import read_image
from service.settings import EMBEDDED_WEIGHTS
from training.data.synthetic import draw_digits
from training.results.corruptions import CORRUPTIONS, corrupt

ROUNDS, N, BATCH = 15, 200, 256


def measure() -> None:
    """Print the ratios, medians of interleaved rounds."""
    classifier, images = load(EMBEDDED_WEIGHTS), draw_digits(BATCH, 10).train.images
    uploads = corrupt(images[:N], CORRUPTIONS["none"], 0)
    photo = _photo()

    def decode() -> None:
        for upload in uploads:
            np.asarray(Image.open(io.BytesIO(upload)))

    def one_by_one() -> None:
        for image in images[:N]:
            classifier.predict_proba(image[np.newaxis])

    def batch() -> None:
        classifier.predict_proba(images)

    def decode_photo() -> None:
        Image.open(io.BytesIO(photo)).load()

    def read_photo() -> None:
        read_image(photo)

    works = (decode, one_by_one, batch, decode_photo, read_photo)
    rounds = [[_cpu(work) for work in works] for _ in range(ROUNDS)]
    decoding, single, batched, photo_decoding, photo_reading = (
        statistics.median(column) for column in zip(*rounds, strict=True)
    )
    each = decoding / N
    print("φ, score and softmax of an image, beside Pillow's decoding of its PNG:")
    print(
        f"  alone              {single / N / each:6.2f}   ({single / N * 1e6:.0f} µs)"
    )
    print(f"  in batches of {BATCH}  {batched / BATCH / each:6.2f}")
    print("a photo of 4,000 x 4,000 pixels, read, beside Pillow's decoding of it:")
    print(f"  JPEG               {photo_reading / photo_decoding:6.2f}", end="")
    print(f"   ({photo_reading * 1e3:.0f} ms of CPU)")


def _photo() -> bytes:
    """Photograph a drawn digit at 4,000 x 4,000 pixels, with light, noise and JPEG."""
    generator = np.random.default_rng(0)
    digit = Image.fromarray(draw_digits(10, 10).train.images[0])
    ink = np.asarray(digit.resize((4000, 4000), Image.Resampling.BICUBIC), np.float32)
    light = np.linspace(0.6, 0.9, 4000, dtype=np.float32)
    levels = 255 * light - 0.6 * ink + generator.normal(0, 4, ink.shape)
    file = io.BytesIO()
    pixels = np.clip(levels, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert("RGB").save(file, "JPEG", quality=80)
    return file.getvalue()


def _cpu(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    measure()
