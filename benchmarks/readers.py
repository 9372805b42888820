"""A program that reads pictures, timed in a process of its own.

python -P benchmarks/readers.py {service,pillow,opencv}    (started by benchmarks.reading)

It imports the service from PYTHONPATH, which may be another revision's. For each line of
input, the name of a work and a file of pickled uploads, it writes a line of JSON.
"""

import contextlib
import io
import json
import os
import pickle
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

# one thread, as in the service; read when numpy is imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

Uploads = list[bytes]
Work = Callable[[Uploads], object]


def timed(step: Callable[[bytes], object]) -> Work:
    """Return the work that applies a step to uploads, and returns its CPU seconds.

    A picture that is refused counts as read.
    """

    def work(uploads: Uploads) -> float:
        start = time.process_time()
        for upload in uploads:
            with contextlib.suppress(ValueError, OSError):
                step(upload)
        return time.process_time() - start

    return work


def of_service() -> dict[str, Work]:
    """Return the works of the service: its reading, all of it, stage by stage, and the answers."""
    from service.classifier import load
    from service.images import read_image
    from service.number import read_one
    from service.settings import EMBEDDED_WEIGHTS

    model = load(EMBEDDED_WEIGHTS)

    def answer(upload: bytes) -> tuple[int, float] | None:
        scores = model.score(read_one(upload, model)[np.newaxis])
        if len(model.refused(scores)):
            return None
        digit = int(scores.probabilities[0].argmax())
        return digit, float(scores.probabilities[0, digit])

    def answer_or_none(upload: bytes) -> tuple[int, float] | None:
        try:
            return answer(upload)
        except ValueError:
            return None

    def stages(uploads: Uploads) -> dict[str, float]:
        seconds: dict[str, float] = defaultdict(float)
        last = 0.0

        def show(name: str, _: object) -> None:
            nonlocal last
            now = time.process_time()
            seconds[name] += now - last
            last = now

        for upload in uploads:
            last = time.process_time()
            try:
                image = read_one(upload, model, show=show)
            except ValueError:
                show("refused", None)
                continue
            show("28x28", None)
            model.score(image[np.newaxis])
            show("score", None)
        return seconds

    return {
        "read": timed(read_image),
        "answer": timed(answer),
        "answers": lambda uploads: list(map(answer_or_none, uploads)),
        "stages": stages,
    }


def of_pillow() -> dict[str, Work]:
    """Return Pillow's decoding, of a JPEG at the size at which the service decodes it."""
    from service.images import read_image

    asked: list[tuple[Any, ...]] = []
    draft = JpegImageFile.draft

    def recorded(picture: JpegImageFile, *size: Any) -> Any:
        asked.append(size)
        return draft(picture, *size)

    drafts: dict[bytes, list[tuple[Any, ...]]] = {}

    def decode(upload: bytes) -> None:
        with Image.open(io.BytesIO(upload)) as picture:
            for size in drafts[upload]:
                picture.draft(*size)
            picture.load()

    def work(uploads: Uploads) -> object:
        for upload in uploads:
            if upload not in drafts:
                JpegImageFile.draft = recorded  # type: ignore[method-assign,assignment]
                asked.clear()
                timed(read_image)([upload])
                drafts[upload] = asked[:]
                JpegImageFile.draft = draft  # type: ignore[method-assign]
        return timed(decode)(uploads)

    return {"decode": work}


def of_opencv() -> dict[str, Work]:
    """Return the reading of a tutorial, without and with a CNN."""
    import cv2

    from benchmarks.peers.opencv import Cnn, read

    cv2.setNumThreads(1)
    cnn = Cnn()
    return {"read": timed(read), "answer": timed(lambda upload: cnn(read(upload)))}


READERS = {"service": of_service, "pillow": of_pillow, "opencv": of_opencv}


def main() -> None:
    """Do the works that are asked for."""
    works = READERS[sys.argv[1]]()
    for line in sys.stdin:
        work, _, path = line.rstrip("\n").partition(" ")
        uploads = pickle.loads(Path(path).read_bytes())
        print(json.dumps(works[work](uploads)), flush=True)


if __name__ == "__main__":
    main()
