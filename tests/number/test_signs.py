"""Pictures of digits with other marks: signs, points, dirt, further rows, broken strokes."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from service.classifier import load
from service.images import InvalidImage, UnlikeDigits
from service.number import read_number, read_one
from service.reading.mnist_format import to_mnist_format
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import encode
from tests.number.test_numbers import HEIGHT, PEN, drawn, text_of

TOP, GAP = 60, 70  # of `drawn`: the row's first pixel; between two digits
SURE = 0.9
SIGNS = {  # strokes, of the height of the digits, around the middle between two of them
    "minus": [[(-0.2, 0.5), (0.2, 0.48)]],
    "plus": [[(-0.2, 0.5), (0.2, 0.5)], [(0, 0.3), (0, 0.7)]],
    "equals": [[(-0.2, 0.35), (0.2, 0.36)], [(-0.2, 0.65), (0.2, 0.64)]],
    "wave": [[(-0.22, 0.55), (-0.1, 0.42), (0.1, 0.58), (0.22, 0.45)]],
    "comma": [[(0.04, 0.95), (0.03, 1.05), (-0.04, 1.15)]],
    "point": [[(0, 0.95), (0.01, 0.95)]],
    "raised point": [[(0, 0.6), (0.01, 0.6)]],
    "colon": [[(0, 0.3), (0.01, 0.3)], [(0, 0.8), (0.01, 0.8)]],
    "slash": [[(0.17, 0), (-0.17, 1)]],
    "curved slash": [[(0.2, 0), (0.07, 0.2), (-0.07, 0.5), (-0.17, 0.8), (-0.2, 1)]],
    "steep slash": [[(0.11, -0.15), (-0.11, 1.15)]],
    "apostrophe": [[(0.03, -0.05), (-0.03, 0.4)]],
    "inches": [[(-0.1, 0), (-0.12, 0.45)], [(0.12, 0), (0.1, 0.45)]],
    "degree": [[(0.2 * np.cos(t), 0.25 + 0.25 * np.sin(t)) for t in np.linspace(0, 6.3, 20)]],
    "short apostrophe": [[(-0.15, -0.05), (-0.2, 0.18)]],
    "small degree": [[(0.1 * np.cos(t) - 0.16, 0.1 * np.sin(t)) for t in np.linspace(0, 6.3, 20)]],
    "ditto": [[(-0.1, -0.1), (-0.1, 0.15)], [(0.08, -0.1), (0.08, 0.15)]],
    "opening bracket": [[(0.15, 0), (0, 0.2), (-0.05, 0.5), (0, 0.8), (0.15, 1)]],
    "closing bracket": [[(-0.15, 0), (0, 0.2), (0.05, 0.5), (0, 0.8), (-0.15, 1)]],
    "A": [[(-0.3, 1), (0, 0), (0.3, 1)], [(-0.18, 0.6), (0.18, 0.6)]],
    "x": [[(-0.22, 0.4), (0.22, 1)], [(0.22, 0.4), (-0.22, 1)]],
}


@pytest.fixture(scope="module")
def shipped():
    classifier = load(EMBEDDED_WEIGHTS)
    if classifier.detector is None:
        pytest.skip("needs weights with a detector")
    return classifier


def marked(sign: str | list, left: str, right: str, pen: float = PEN * 1.2) -> bytes:
    """Draw a sign, or strokes, between two digits, or before the second if the first is empty."""
    levels = np.pad(drawn(*left, *right, gap=GAP), ((0, 0), (HEIGHT, 0)), constant_values=255)
    columns = np.flatnonzero((levels < 128).any(0))
    ends = columns[:-1][np.diff(columns) > GAP / 2]
    middle = float(ends[0] + GAP / 2) if len(ends) else float(columns[0] - GAP / 2)
    picture = Image.fromarray(levels)
    pencil = ImageDraw.Draw(picture)
    for stroke in SIGNS[sign] if isinstance(sign, str) else sign:
        points = [(middle + HEIGHT * x, TOP + HEIGHT * y) for x, y in stroke]
        pencil.line(points, 0, round(pen), joint="curve")
        for x, y in points:
            pencil.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=0)
    return encode(picture)


def is_sure(upload: bytes, classifier) -> bool:
    try:
        return read_number(upload, classifier).probability >= SURE
    except InvalidImage:
        return False


def digit_of(upload: bytes, classifier) -> int:
    """Return the digit in a picture of one."""
    scores = classifier.score(read_one(upload, classifier)[np.newaxis])
    return int(scores.probabilities[0].argmax())


@pytest.mark.parametrize("digits", ["34", "72", "08"])
def test_digits_without_a_sign_are_sure(digits, shipped):
    assert is_sure(encode(drawn(*digits, gap=GAP)), shipped)


@pytest.mark.parametrize("name", ["minus", "wave"])
@pytest.mark.parametrize("digits", ["34", "72", "08", "5"])
def test_a_sign_of_the_size_of_a_stroke_is_refused(name, digits, shipped):
    upload = marked(name, digits[1:], digits[:1])

    with pytest.raises(InvalidImage, match="mark beside the digits"):
        read_number(upload, shipped)


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize("digits", ["34", "72", "08"])
def test_digits_with_a_sign_between_them_are_never_sure(name, digits, shipped):
    assert not is_sure(marked(name, *digits), shipped)


@pytest.mark.parametrize(("lean", "height"), [(0.0, 1.15), (0.12, 1.0), (-0.3, 1.1)])
@pytest.mark.parametrize("digits", ["34", "72", "08"])
def test_a_one_between_digits_is_sure_unless_it_may_be_a_slash(lean, height, digits, shipped):
    stroke = [(lean * height / 2, 1 - height), (-lean * height / 2, 1)]

    assert is_sure(marked([stroke], *digits), shipped)


def test_a_sign_in_a_large_picture_is_seen_where_only_the_row_is_read_closely(shipped):
    with Image.open(io.BytesIO(marked("minus", "", "5"))) as picture:
        page = np.pad(np.asarray(picture), ((800, 300), (900, 600)), constant_values=255)

    assert not is_sure(encode(page), shipped)


def spotted(n: int, radius: float, level: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw three digits; return them without and with spots all over the picture."""
    levels = drawn("3", "7", "2", gap=GAP)
    picture = Image.fromarray(levels)
    pencil = ImageDraw.Draw(picture)
    for x, y in np.random.default_rng(seed).uniform(0, 1, (n, 2)) * picture.size:
        pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=level)
    return levels, np.minimum(levels, np.asarray(picture))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "radius", "level"), [(12, 1.5, 0), (6, 3, 200), (40, 1, 60)])
def test_specks_and_faint_dirt_do_not_change_a_number(n, radius, level, seed, shipped):
    clean, dirty = (read_number(encode(each), shipped) for each in spotted(n, radius, level, seed))

    assert text_of(dirty) == text_of(clean)
    assert dirty.probability > clean.probability - 0.1


def in_rows(*rows: str, gap: int, height: int = 60) -> np.ndarray:
    """Draw rows of digits, one below the other, with a gap between them."""
    pictures = [drawn(*row, height=height, top=gap // 2) for row in rows]
    width = max(levels.shape[1] for levels in pictures)
    pictures = [
        np.pad(levels, ((0, 0), (0, width - levels.shape[1])), constant_values=255)
        for levels in pictures
    ]
    return np.pad(np.concatenate(pictures), 30, constant_values=255)


@pytest.mark.parametrize("gap", [30, 50])
@pytest.mark.parametrize(
    "rows", [("7", "2"), ("3", "6", "2"), ("63", "55"), ("27", "8"), ("273", "342"), ("3720",) * 3]
)
def test_rows_of_digits_are_refused_as_rows_however_they_are_sent(rows, gap, shipped):
    upload = encode(in_rows(*rows, gap=gap))

    for read in (read_number, read_one):
        with pytest.raises(InvalidImage, match=r"^the picture holds several rows of digits"):
            read(upload, shipped)


@pytest.mark.parametrize("share", [0.4, 0.45])
@pytest.mark.parametrize("y", [20, 45, 100], ids=["above", "at its top", "at its foot"])
@pytest.mark.parametrize("digits", ["32", "72", "43", "28"])
def test_a_digit_with_a_smaller_one_beside_it_is_refused(share, y, digits, shipped):
    large = drawn(digits[0])
    small = drawn(digits[1], height=round(100 * share), top=0)[:, 50:]
    levels = np.pad(large[:, :-45], ((0, 0), (0, small.shape[1])), constant_values=255)
    levels[y : y + len(small), -small.shape[1] :] = small

    with contextlib.suppress(InvalidImage):
        image = read_one(encode(levels), shipped)
        # the detector refuses what is not refused as several
        assert 0 in shipped.refused(shipped.score(image[np.newaxis]))


@pytest.mark.parametrize("digit", ["0", "720"])
@pytest.mark.parametrize("n", [13, 20, 21, 25, 40])
def test_the_advice_to_ask_for_a_number_is_given_where_it_works(n, digit, shipped):
    upload = encode(drawn(*(digit * n)[:n], height=60))

    with pytest.raises(InvalidImage) as refusal:
        read_one(upload, shipped)
    if n > 20:
        with pytest.raises(InvalidImage, match="more than 20 digits"):
            read_number(upload, shipped)
        assert "more than 20 digits" in str(refusal.value)
    else:
        assert len(read_number(upload, shipped).digits) == n == refusal.value.n_digits


def test_unclear_digits_are_not_advised_to_be_asked_for(shipped):
    wave = [(20 + 2 * i, 60 + 35 * np.sin(i / 6)) for i in range(220)]
    picture = Image.new("L", (480, 120), 255)
    ImageDraw.Draw(picture).line(wave, 0, 8)

    for read in (read_number, read_one):
        with pytest.raises(InvalidImage, match=r"does not look like a digit|not clear|hardly"):
            read(encode(picture), shipped)


@pytest.mark.parametrize("lean", [-0.1, 0.0, 0.2, 0.4])
@pytest.mark.parametrize(("at", "gap"), [(0.5, 8), (0.4, 12), (0.65, 6)])
def test_a_stroke_with_a_gap_is_one_digit(lean, at, gap, shipped):
    picture = Image.new("L", (200, 220), 255)
    pencil = ImageDraw.Draw(picture)
    for start, end in ((0, 100 * at - gap / 2), (100 * at + gap / 2, 100)):
        points = [(100 - lean * (y - 50), 60 + y) for y in (start, end)]
        pencil.line(points, 0, 8)
    upload = encode(picture)

    assert text_of(read_number(upload, shipped)) == "1"
    assert digit_of(upload, shipped) == 1


@pytest.mark.parametrize("inner", [(75, 105, 85, 115), (72, 122, 90, 94)])
def test_a_zero_with_a_dot_or_a_bar_inside_is_a_zero(inner, shipped):
    picture = Image.new("L", (160, 220), 255)
    pencil = ImageDraw.Draw(picture)
    pencil.ellipse((45, 60, 115, 160), outline=0, width=10)
    if inner[3] > inner[1]:
        pencil.ellipse(inner, fill=0)
    else:
        pencil.line(inner, 0, 8)

    number = read_number(encode(picture), shipped)

    assert text_of(number) == "0"
    assert number.probability > 0.5


def in_mnist_format(strokes: list[list[tuple[float, float]]]) -> np.ndarray:
    """Draw strokes, in parts of 100 pixels, as an image (28, 28) like MNIST's."""
    picture = Image.new("L", (140, 140))
    pencil = ImageDraw.Draw(picture)
    for stroke in strokes:
        pencil.line([(20 + 100 * x, 20 + 100 * y) for x, y in stroke], 255, 10)
    ink = np.asarray(picture.crop(picture.getbbox()), np.float32) / 255
    return to_mnist_format(ink, ink > 0.5)


@pytest.mark.parametrize(
    "strokes",
    [
        [[(0, 0), (0, 1)], [(0.7, 0), (0.7, 1)], [(0, 0.5), (0.7, 0.5)]],
        [[(0, 0), (1, 1)], [(1, 0), (0, 1)]],
        [[(0, 1), (0.05, 0), (0.4, 0.8), (0.75, 0), (0.8, 1)]],
        [[(0, 0), (0.25, 1), (0.45, 0.2), (0.65, 1), (0.9, 0)]],
    ],
)
def test_a_letter_in_mnists_format_is_refused_as_a_number_too(strokes, shipped):
    image = in_mnist_format(strokes)
    scores = shipped.score(image[np.newaxis])
    assert shipped.refused(scores) == [0]

    with pytest.raises(UnlikeDigits) as refusal:
        read_number(encode(image), shipped)

    assert refusal.value.is_digit == pytest.approx(scores.is_digit.tolist())


@pytest.mark.parametrize("name", ["2", "5", "7"])
@pytest.mark.parametrize("degrees", [-28, 28])
def test_a_digit_on_a_slope_is_one_digit(name, degrees, shipped):
    levels = np.pad(drawn(name, top=80), ((0, 0), (60, 60)), constant_values=255)
    turned = Image.fromarray(levels).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=255)

    assert digit_of(encode(turned), shipped) == int(name)


@pytest.mark.parametrize("side", [300, 500, 700])
@pytest.mark.parametrize("digit", "2358")
def test_arcs_of_a_hairline_circle_are_no_digits_beside_the_one_in_it(digit, side, shipped):
    sheet = Image.new("L", (side, side), 255)
    sheet.paste(
        Image.fromarray(drawn(digit)).resize((side // 2, side // 2)), (side // 4, side // 4)
    )
    ImageDraw.Draw(sheet).ellipse(
        (side // 10, side // 10, side * 9 // 10, side * 9 // 10), outline=0
    )

    image = read_one(encode(np.asarray(sheet)), shipped)

    assert shipped.predict_proba(image[np.newaxis]).argmax() == int(digit)
