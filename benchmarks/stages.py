"""CPU time of one request, stage by stage.

python -m benchmarks.stages
"""

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

# one thread, as in the service; read when numpy is imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from PIL.PngImagePlugin import PngImageFile

from benchmarks.rounds import interleave, spread
from benchmarks.servers import FORM, form
from benchmarks.uploads import png, test_images
from service.app import create_app
from service.classifier import load, softmax
from service.features import FEATURES
from service.images import read_image, read_mnist_png
from service.reading.mnist_format import is_mnist_shaped
from service.server.http import ReceiveBuffer, SendBuffer
from service.settings import EMBEDDED_WEIGHTS
from service.web.forms import plain_files
from service.web.prediction_json import prediction

N, ROUNDS, BATCH = 200, 15, 8


def measure() -> None:
    """Print the CPU time of every stage."""
    images = test_images(N)
    uploads = [png(image) for image in images]
    forms = [form(upload) for upload in uploads]
    requests = [_request(body) for body in forms]
    classifier = load(EMBEDDED_WEIGHTS)
    phi = FEATURES[classifier.features]
    features = phi(images)
    scores = classifier.score(images)
    app = create_app(classifier)
    batches = [images[i : i + BATCH] for i in range(0, N, BATCH)]
    config = Config()
    fast_path: Any = app.wsgi_app  # declared as a method by Flask
    undetecting: Any = create_app(replace(classifier, detector=None)).wsgi_app

    def parse(data: bytes) -> tuple[wsgi.Response, dict[str, Any]]:
        received = ReceiveBuffer()
        received.data += data
        request = Request(config, received, ("127.0.0.1", 1), 1)
        server = ("127.0.0.1", 8000)
        return wsgi.create(request, SendBuffer(), ("127.0.0.1", 1), server, config)

    def answer(application: Callable[..., Any]) -> Callable[[bytes], None]:
        def run(body: bytes) -> None:
            for _ in application(_environ(body), lambda *_: None):
                pass

        return run

    def decode(upload: bytes) -> None:
        PngImageFile(io.BytesIO(upload)).load()

    stages: list[tuple[str, Callable[[Any], object], Iterable[Any]]] = [
        ("HTTP head to WSGI environ, by gunicorn", parse, requests),
        ("form parsed", lambda b: plain_files(FORM, b, 1), forms),
        ("PNG opened and decoded by Pillow", decode, uploads),
        ("check for MNIST's shape", is_mnist_shaped, images),
        ("PNG to image: its pixels decoded, checked", read_mnist_png, uploads),
        ("features of one image", lambda i: phi(i[np.newaxis]), images),
        (f"features of one image in a batch of {BATCH}", phi, batches),
        ("logits", lambda f: classifier.logits(f[np.newaxis]), features),
        ("softmax", lambda p: softmax(p[np.newaxis]), scores.probabilities),
        ("JSON reply", lambda i: prediction(classifier, scores, i), range(N)),
        ("fast path: form to reply", answer(fast_path), forms),
        ("fast path, without a detector", answer(undetecting), forms),
        ("Flask and Werkzeug: form to reply", answer(fast_path.application), forms),
        ("PNG to image, as any other picture", read_image, uploads),
    ]
    rounds = interleave([_over(work, inputs) for _, work, inputs in stages], ROUNDS)
    print(f"µs of CPU per image, median (range) of {ROUNDS} interleaved rounds")
    for (name, _, _), seconds in zip(stages, rounds, strict=True):
        print(f"{name:<44}{spread((second / N * 1e6 for second in seconds), '.1f')}")


def _over(work: Callable[[Any], object], inputs: Iterable[Any]) -> Callable[[], None]:
    """Return a function that does the work on all inputs."""

    def run() -> None:
        for each in inputs:
            work(each)

    return run


def _request(body: bytes) -> bytes:
    head = (
        "POST /predict HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: curl\r\n"
        f"Accept: */*\r\nContent-Length: {len(body)}\r\nContent-Type: {FORM}\r\n\r\n"
    )
    return head.encode() + body


def _environ(body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/predict",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": FORM,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
    }


if __name__ == "__main__":
    measure()
