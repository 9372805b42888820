"""Bulk requests, checked to be what they claim."""

import io
from collections.abc import Callable

import numpy as np
import pytest

from service.images import are_mnist_shaped
from service.reading.mnist_format import is_mnist_shaped
from service.settings import DEFAULT_LIMITS
from service.web.bulk import unusual_images
from tests.conftest import encode

BYTES, NPY = "application/octet-stream", "application/x-npy"
N = 40


@pytest.fixture(scope="module")
def images(digits) -> np.ndarray:
    """Return images that are all MNIST-shaped, as MNIST's are."""
    images = digits.test.images
    return np.ascontiguousarray(images[are_mnist_shaped(images)][:N])


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def channels(images: np.ndarray, n: int, axis: int) -> np.ndarray:
    grey = [images] * min(n, 3) if n > 2 else [images]
    return np.stack(grey + [np.full_like(images, 255)] * (n - len(grey)), axis)


TYPES = {"f8": "float64", "f4": "float32", "f2": "float16"}
TYPES |= {"i8": "int64", "i4": "int32", "i2": "int16", "u2": "int16"}
OTHERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    **{
        order + kind: (lambda x, kind=order + kind: x.astype(kind), f"{name} numbers")
        for order in "<>"
        for kind, name in TYPES.items()
    },
    "float32, 0 to 1": (lambda x: (x / 255).astype("f4"), "float32 numbers"),
    "float64, 0 to 1": (lambda x: x / 255, "float64 numbers"),
    "float32, standardised": (lambda x: ((x / 255 - 0.13) / 0.31).astype("f4"), "float32"),
    "float32, inverted": (
        lambda x: (1 - x / 255).astype("f4"),
        "float32 numbers (little-endian), i",
    ),
    "int64, 0 or 1": (lambda x: (x > 0).astype("i8"), "int64 numbers"),
    "0 or 1": (lambda x: (x > 0).astype("u1"), "levels from 0 to 1"),
    "bool": (lambda x: x > 0, "levels from 0 to 1"),
    "inverted": (lambda x: 255 - x, "inverted"),
    "RGB": (lambda x: channels(x, 3, -1), "3 channels per pixel (RGB)"),
    "RGB, inverted": (lambda x: channels(255 - x, 3, -1), "(RGB), inverted"),
    "RGBA": (lambda x: channels(x, 4, -1), "4 channels per pixel (RGBA)"),
    "grey and alpha": (lambda x: channels(x, 2, -1), "2 channels per pixel"),
    "RGB planes": (lambda x: channels(x, 3, 1), "3 planes each (RGB)"),
    "RGBA planes": (lambda x: channels(x, 4, 1), "4 planes each (RGBA)"),
    "(28, 28, N)": (lambda x: x.transpose(1, 2, 0), "(28, 28, N)"),
    "32 x 32": (lambda x: np.pad(x, ((0, 0), (2, 2), (2, 2))), "32 x 32"),
    "label first": (lambda x: np.insert(x.reshape(len(x), -1), 0, 7, axis=1), "label before"),
    "label last": (lambda x: np.insert(x.reshape(len(x), -1), 784, 7, axis=1), "label after"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_array_of_another_layout_is_refused_by_its_name(client, images, name):
    change, words = OTHERS[name]

    reply = client.post("/predict", data=change(images).tobytes(), content_type=BYTES)

    assert reply.status_code == 400
    assert "the body looks like" in reply.json["detail"]
    assert words in reply.json["detail"]
    assert "send uint8" in reply.json["detail"]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\0\0\x08\3\0\0\x27\x10\0\0\0\x1c\0\0\0\x1c", "IDX file"),
        (b"\x1f\x8b\x08", "compressed data; decompress it"),
        (b"PK\3\4", "ZIP archive"),
    ],
)
@pytest.mark.parametrize("is_exact", [False, True])
def test_file_of_another_format_is_refused_by_its_name(client, start, words, is_exact):
    noise = np.random.default_rng(0).bytes(784 * 9)
    body = start + (noise[len(start) :] if is_exact else noise)

    reply = client.post("/predict", data=body, content_type=BYTES)

    assert reply.status_code == 400
    assert words in reply.json["detail"]


def test_numbers_as_text_are_refused_by_their_name(client, images):
    text = ",".join(map(str, images.ravel())).encode()

    reply = client.post("/predict", data=text + b"\n" * (-len(text) % 784), content_type=BYTES)

    assert reply.status_code == 400
    assert "written as text" in reply.json["detail"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_picture_whose_length_divides_by_784_is_read_as_a_picture(client, drawn, kind):
    picture = encode(drawn.test.images[0], kind)
    body = picture + bytes(-len(picture) % 784)

    reply = client.post("/predict", data=body, content_type=BYTES)

    assert reply.status_code == 200
    assert reply.json == client.post("/predict", data=body, content_type="image/png").json


def test_npy_file_is_one_whatever_its_type(client, images):
    expected = client.post("/predict", data=npy(images), content_type=NPY)

    for kind in (BYTES, "text/plain", ""):
        reply = client.post("/predict", data=npy(images), content_type=kind)
        assert (reply.status_code, reply.data) == (200, expected.data)


@pytest.mark.parametrize("change", [lambda x: x / 255, lambda x: x > 0, lambda x: x[..., None]])
def test_npy_of_another_type_or_shape_is_refused_with_what_to_send(client, images, change):
    array = change(images)

    reply = client.post("/predict", data=npy(array), content_type=NPY)

    assert reply.status_code == 400
    for word in (str(array.dtype), "(255 * images).astype(numpy.uint8).reshape(-1, 28, 28)"):
        assert word in reply.json["detail"]


@pytest.mark.parametrize("kind", [BYTES, NPY])
def test_npy_and_bytes_of_inverted_images_are_refused(client, images, kind):
    body = npy(255 - images) if kind == NPY else (255 - images).tobytes()

    reply = client.post("/predict", data=body, content_type=kind)

    assert reply.status_code == 400
    assert "inverted" in reply.json["detail"]


def test_odd_images_of_a_batch_get_the_answers_of_pictures(client, images, classifier):
    batch = images.copy()
    batch[3] = 255 - batch[3]
    batch[7] = np.roll(batch[7], 3, axis=0) // 2 + 40
    batch[9] = 0

    slots = client.post("/predict", data=batch.tobytes(), content_type=BYTES).json["predictions"]

    for i in range(N):
        picture = client.post("/predict", data=encode(batch[i]), content_type="image/png")
        if i == 9:
            assert slots[i]["error"] == picture.json
            assert "blank" in slots[i]["error"]["detail"]
        else:
            assert slots[i] == {name: picture.json[name] for name in slots[i]}


def test_odd_image_has_a_row_of_nan_in_an_npy_reply_if_it_has_no_digit(client, images):
    batch = images.copy()
    batch[0] = 0

    reply = client.post(
        "/predict", data=batch.tobytes(), content_type=BYTES, headers={"Accept": NPY}
    )

    rows = np.load(io.BytesIO(reply.data))
    assert np.isnan(rows[0]).all()
    assert np.isfinite(rows[1:]).all()


def test_more_odd_images_than_a_form_may_have_pictures_are_refused(client, images):
    n = DEFAULT_LIMITS.max_pictures + 1
    batch = np.concatenate([np.resize(images, (n, 28, 28)), np.zeros((n, 28, 28), np.uint8)])

    reply = client.post("/predict", data=batch.tobytes(), content_type=BYTES)

    assert reply.status_code == 413
    assert f"{n:,} of {2 * n:,} images" in reply.json["detail"]


def test_same_image_many_times_is_no_colour_image(client, images):
    for n in (2, 3, 4, 9, 12):
        body = np.repeat(images[:1], n, axis=0).tobytes()
        reply = client.post("/predict", data=body, content_type=BYTES)
        assert len(reply.json["predictions"]) == n


def augmented(images: np.ndarray) -> list[np.ndarray]:
    """Return batches whose images are all odd, but are what they claim."""
    rng = np.random.default_rng(0)
    return [
        np.roll(images, 4, axis=1),
        images // 2 + 60,
        images[:, ::-1, ::-1] // 3 + 40,
        np.maximum(images, np.roll(images, 1, axis=2)),
        (0.15 * 255 + 0.3 * images).astype(np.uint8),
        np.clip(images + rng.normal(0, 50, images.shape), 0, 255).astype(np.uint8),
        (images // 16).astype(np.uint8),
    ]


def test_augmented_or_faint_images_are_not_taken_for_another_layout(client, images):
    for batch in augmented(images):
        for n in (1, 3, 8, N):
            data = batch[:n].tobytes()
            reply = client.post("/predict", data=data, content_type=BYTES)
            assert reply.status_code == 200, reply.json


@pytest.mark.parametrize("n", [2, 3, 4])
def test_images_that_are_sent_repeatedly_are_not_taken_for_channels(images, n):
    assert unusual_images(np.repeat(images[:4], n, axis=0)).size == 0
    assert unusual_images(np.repeat(images[:1], 120, axis=0)).size == 0


def test_check_of_a_batch_equals_the_check_of_each_image(digits):
    images = np.concatenate([digits.test.images[:300], *augmented(digits.test.images[:60])])

    assert are_mnist_shaped(images).tolist() == [is_mnist_shaped(image) for image in images]
    assert are_mnist_shaped(images[:0]).tolist() == []


def test_every_image_of_mnist_passes_the_check_of_a_batch(mnist):
    assert are_mnist_shaped(mnist.test.images).all()
