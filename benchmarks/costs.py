"""CPU time of reading and classifying, compared with decoding by Pillow.

python -m benchmarks.costs
"""

import io
import os
import statistics

# one thread, as in the service; read when numpy is imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from PIL import Image

from benchmarks.rounds import interleave, ratios, spread
from service.classifier import load
from service.images import read_image
from service.settings import EMBEDDED_WEIGHTS
from training.data.synthetic import draw_digits
from training.results.corruptions import CORRUPTIONS, corrupt

ROUNDS, N, BATCH = 15, 200, 256


def measure() -> None:
    """Print the ratios to Pillow's decoding of the same file."""
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

    decoding, single, batched, photo_decoding, photo_reading = interleave(
        (decode, one_by_one, batch, decode_photo, read_photo), ROUNDS
    )
    print(f"CPU time, median (range) of {ROUNDS} interleaved rounds")
    print("features, logits and softmax of an image / decoding its PNG:")
    one = statistics.median(single) / N * 1e6
    print(f"  one image          {spread(ratios(single, decoding))}; {one:.0f} µs")
    per_image = [seconds / BATCH * N for seconds in batched]
    print(f"  in batches of {BATCH}  {spread(ratios(per_image, decoding))}")
    print("reading a photo of 4,000x4,000 pixels / decoding its JPEG:")
    milliseconds = statistics.median(photo_reading) * 1e3
    ratio = spread(ratios(photo_reading, photo_decoding))
    print(f"  one photo          {ratio}; {milliseconds:.0f} ms")


def _photo() -> bytes:
    """Return a JPEG (4000, 4000) of a digit under uneven light, with noise."""
    generator = np.random.default_rng(0)
    digit = Image.fromarray(draw_digits(10, 10).train.images[0])
    ink = np.asarray(digit.resize((4000, 4000), Image.Resampling.BICUBIC), np.float32)
    light = np.linspace(0.6, 0.9, 4000, dtype=np.float32)
    levels = 255 * light - 0.6 * ink + generator.normal(0, 4, ink.shape)
    file = io.BytesIO()
    pixels = np.clip(levels, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert("RGB").save(file, "JPEG", quality=80)
    return file.getvalue()


if __name__ == "__main__":
    measure()
