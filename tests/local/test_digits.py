"""Digits.read and what it takes: files, bytes, Pillow images, arrays."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import service
from service import Digits, InvalidImage
from service.app import create_app
from service.classifier import InvalidWeights, load
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import ROOT

DIGIT = ROOT / "docs" / "digit.png"
PHOTO = ROOT / "docs" / "reading" / "photo.jpg"


@pytest.fixture(scope="module")
def reader() -> Digits:
    return Digits.load()


@pytest.fixture(scope="module")
def client():
    return create_app(load(EMBEDDED_WEIGHTS)).test_client()


@pytest.mark.parametrize("path", [DIGIT, PHOTO], ids=["drawn", "photo"])
def test_answer_is_that_of_the_service(reader, client, path):
    reply = client.post("/predict", data=path.read_bytes(), content_type="image/png").json

    answer = reader.read(path)

    assert answer.digit == reply["digit"]
    assert f"{answer.probability:.7g}" == f"{reply['probability']:.7g}"
    assert f"{answer.is_digit:.7g}" == f"{reply['is_digit']:.7g}"
    np.testing.assert_allclose(answer.probabilities, reply["probabilities"], rtol=1e-6)


def test_kinds_of_one_picture_have_the_same_answer(reader):
    image = Image.open(DIGIT)
    kinds = [str(DIGIT), DIGIT.read_bytes(), image, np.asarray(image.convert("RGB"))]
    kinds += [np.asarray(image.convert("L"))[..., np.newaxis], image.convert("CMYK")]

    answers = {(a.digit, a.probability) for a in map(reader.read, kinds)}

    assert answers == {(5, reader.read(DIGIT).probability)}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_pillow_image_of_any_mode_is_read(reader, mode):
    image = Image.open(DIGIT).convert("L")
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image

    assert reader.read(image if mode == "I;16" else image.convert(mode)).digit == 5


def test_pillow_image_is_turned_as_its_file_says(reader, tmp_path):
    image, path = Image.open(DIGIT).convert("L"), tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be rotated by 90° clockwise
    image.rotate(90, expand=True).save(path, exif=exif)

    answer = reader.read(Image.open(path))

    assert answer.digit == 5
    assert answer.probability == reader.read(path).probability


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("L", (40, 40), 200), "no digit found: the picture is blank"),
        (np.zeros((0, 5), np.uint8), r"uint8 \(0, 5\)"),
        (np.zeros((28, 28)), r"the array is float64 \(28, 28\); pass uint8"),
        (np.zeros((3, 28, 28), np.uint8), r"the array is uint8 \(3, 28, 28\)"),
        (np.uint8(3), r"the array is uint8 \(\)"),
        (b"", "not a picture in a supported format"),
        (Image.open(ROOT / "docs" / "coverage.png"), "this does not look like a digit"),
    ],
)
def test_picture_without_a_digit_raises_invalid_image(reader, picture, message):
    with pytest.raises(InvalidImage, match=message):
        reader.read(picture)


def test_picture_of_too_many_pixels_is_refused(reader):
    with pytest.raises(InvalidImage, match="send at most 1,024"):
        Digits(reader.classifier, max_pixels=1024).read(DIGIT)


def test_missing_files_raise_their_own_errors(reader, tmp_path):
    with pytest.raises(FileNotFoundError):
        reader.read(tmp_path / "7.png")
    with pytest.raises(InvalidWeights, match="No such file"):
        Digits.load(tmp_path / "digits.safetensors")


def test_images_are_read_as_in_a_bulk_request(reader, client, drawn):
    inverted, blank = 255 - drawn.test.images[3:4], np.zeros((1, 28, 28), np.uint8)
    images = np.concatenate([drawn.test.images[:300], inverted, blank])
    kept = images.copy()

    answers = reader.read_images(images)

    body = client.post(
        "/predict", data=images.tobytes(), content_type="application/octet-stream"
    ).json
    for answer, reply in zip(answers, body["predictions"], strict=True):
        if "error" in reply:
            assert str(answer) == reply["error"]["detail"]
        else:
            assert answer.digit == reply["digit"]
            assert f"{answer.probability:.7g}" == f"{reply['probability']:.7g}"
    assert isinstance(answers[-1], InvalidImage)
    np.testing.assert_array_equal(images, kept)


def test_importing_the_package_loads_no_library():
    script = "import service, sys; print(any(m in sys.modules for m in ('numpy', 'PIL', 'flask')))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout == "False\n"
    assert service.Digits is Digits
    with pytest.raises(AttributeError, match="no attribute 'Digit'"):
        _ = service.Digit


def test_a_script_of_two_lines_prints_the_digit():
    script = "from service import Digits\n\nprint(Digits.load().read('docs/digit.png').digit)"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert run.stdout == "5\n"
