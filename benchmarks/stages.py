"""Where the time of one request goes, stage by stage, in µs of CPU.

python -m benchmarks.stages
"""

import io
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

# as in the service's processes, and before numpy is loaded
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from PIL.PngImagePlugin import PngImageFile

from benchmarks.servers import FORM, form
from benchmarks.uploads import png, test_images
from service.app import create_app
from service.classifier import load, softmax
from service.features import stroke_edges
from service.images import read_image, read_mnist_png
from service.reading.mnist_format import is_mnist_shaped
from service.server.http import ReceiveBuffer, SendBuffer
from service.settings import EMBEDDED_WEIGHTS
from service.web.forms import plain_files
from service.web.prediction_json import prediction

N, ROUNDS, TOGETHER = 200, 15, 8


def measure() -> None:
    """Print the stages, medians of interleaved rounds."""
    images = test_images(N)
    uploads = [png(image) for image in images]
    forms = [form(upload) for upload in uploads]
    requests = [_request(body) for body in forms]
    classifier = load(EMBEDDED_WEIGHTS)
    features = stroke_edges(images)
    probabilities = classifier.predict_proba(images)
    app = create_app(classifier)
    batches = [images[i : i + TOGETHER] for i in range(0, N, TOGETHER)]
    config = Config()
    flask, door = app.wsgi_app.application, app.wsgi_app

    def parse(data: bytes) -> tuple[wsgi.Response, dict[str, Any]]:
        received = ReceiveBuffer()
        received.data += data
        request = Request(config, received, ("127.0.0.1", 1), 1)
        environ = ("127.0.0.1", 8000)
        return wsgi.create(request, SendBuffer(), ("127.0.0.1", 1), environ, config)

    def answer(application: Callable[..., Any]) -> Callable[[bytes], None]:
        def run(body: bytes) -> None:
            for _ in application(_environ(body), lambda *_: None):
                pass

        return run

    def decode(upload: bytes) -> None:
        PngImageFile(io.BytesIO(upload)).load()

    stages: list[tuple[str, Callable[[Any], object], Sequence[Any]]] = [
        ("the head, by gunicorn, and its environ", parse, requests),
        ("the form taken apart", lambda b: plain_files(FORM, b, 1), forms),
        ("the PNG decoded by Pillow", decode, uploads),
        ("is it MNIST-shaped?", is_mnist_shaped, images),
        ("the PNG read, these two and a copy", read_mnist_png, uploads),
        ("φ, of one image", lambda i: stroke_edges(i[np.newaxis]), images),
        (f"φ, of one of {TOGETHER}", stroke_edges, batches),
        ("φ W + b", lambda f: classifier.logits(f[np.newaxis]), features),
        ("softmax", lambda p: softmax(p[np.newaxis]), probabilities),
        ("the reply's JSON", lambda p: prediction(classifier, p), probabilities),
        ("the door: form to reply, of one image", answer(door), forms),
        ("the same by Flask and Werkzeug", answer(flask), forms),
        ("the PNG read as any picture is", read_image, uploads),
    ]
    rounds = [[_cpu(work, inputs) for _, work, inputs in stages] for _ in range(ROUNDS)]
    for (name, _, _), times in zip(stages, zip(*rounds, strict=True), strict=True):
        print(f"{name:<42}{statistics.median(times) / N * 1e6:>7.1f} µs")


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


def _cpu(work: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    start = time.process_time()
    for each in inputs:
        work(each)
    return time.process_time() - start


if __name__ == "__main__":
    measure()
