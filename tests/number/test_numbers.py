"""Numbers of several digits, read whole or refused."""

import contextlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from benchmarks.hands import Hand, ink_of, strokes_of
from service.classifier import load
from service.images import InvalidImage, SeveralDigits, read_image
from service.number import read_number, read_one
from service.number.search import MAX_SEGMENTS
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import encode

SHAPES = {
    "0": "0 50,0 10,25 10,75 50,100 90,75 90,25 50,0",
    "1": "1 50,0 | 50,100",
    "2": "2 12,22 30,2 70,3 85,30 55,65 10,98 | 92,98",
    "3": "3 12,12 45,0 80,18 65,42 40,48 | 75,55 88,78 50,100 10,88",
    "4": "4 65,0 | 5,65 | 95,65 / 68,0 | 68,100",
    "5": "5 88,0 | 25,2 | 20,42 | 55,35 85,60 70,93 35,100 10,90",
    "6": "6 70,0 35,20 12,60 25,95 60,100 82,75 60,52 30,60 15,75",
    "7": "7 10,4 | 90,2 | 40,100",
    "8": "8 75,12 45,0 20,20 45,45 80,72 50,100 15,78 50,47 80,22 70,8",
    "detached 5": "5 25,12 | 20,42 | 55,35 85,60 70,93 35,100 10,90 / 45,0 | 95,0",
    "broken 8": "8 50,0 25,20 50,42 75,20 50,0 / 50,55 20,78 50,100 80,78 50,55",
    "=": "1 0,35 | 90,35 / 0,65 | 90,65",
}
HEIGHT, PEN = 100, 10  # pixels


@pytest.fixture(scope="module")
def shipped():
    return load(EMBEDDED_WEIGHTS)


def drawn(*names: str, gap: int = 30, height: int = HEIGHT, top: int = 60) -> np.ndarray:
    """Draw shapes side by side, black on white; return grey levels."""
    rng = np.random.default_rng(0)
    hand = Hand(PEN / HEIGHT, width=0.7, tremor=0)
    strokes, x = [], 60.0
    for name in names:
        shape = [(stroke + 0.5) * height for stroke in strokes_of(SHAPES[name], hand, rng)]
        points = np.concatenate(shape)
        corner = np.array([x - points[:, 0].min(), top])
        strokes += [stroke + corner for stroke in shape]
        x += np.ptp(points[:, 0]) + PEN + gap
    size = (2 * top + height, int(x) + 60)
    return np.rint(255 * (1 - ink_of(strokes, size, PEN * height / HEIGHT, rng))).astype(np.uint8)


def text_of(number) -> str:
    return "".join(str(digit.probabilities.argmax()) for digit in number.digits)


@pytest.mark.parametrize("text", ["7", "10", "2048", "631725", "34567012"])
def test_digits_side_by_side_are_read_in_order(text, shipped):
    number = read_number(encode(drawn(*text)), shipped)

    assert text_of(number) == text
    assert 0 < number.probability <= 1


@pytest.fixture
def detecting(shipped):
    """The shipped classifier, or a skipped test if it does not estimate P(digit)."""
    if shipped.detector is None:
        pytest.skip("needs weights with a detector")
    return shipped


@pytest.mark.parametrize("text", ["10", "77", "2048", "631725"])
def test_several_digits_are_no_single_digit(text, detecting):
    with pytest.raises(SeveralDigits, match=f"holds {len(text)} digits") as caught:
        read_one(encode(drawn(*text)), detecting)

    assert caught.value.n_digits == len(text)


@pytest.mark.parametrize("name", [*"0123456789"[:9], "detached 5", "broken 8"])
def test_a_single_digit_is_read_as_by_read_image(name, shipped):
    upload = encode(drawn(name))

    np.testing.assert_array_equal(read_one(upload, shipped), read_image(upload))


@pytest.mark.parametrize("name", ["detached 5", "broken 8"])
def test_a_digit_in_two_parts_is_one_digit_of_a_number(name, shipped):
    assert text_of(read_number(encode(drawn("3", name, "7")), shipped)) == f"3{name[-1]}7"


@pytest.mark.parametrize("name", list("012345678"))
def test_a_line_below_a_digit_does_not_change_it(name, shipped):
    plain = drawn(name)
    underlined = plain.copy()
    underlined[-45:-38, 30:-30] = 0

    images = [read_one(encode(picture), shipped)[np.newaxis] for picture in (plain, underlined)]
    digits = [shipped.predict_proba(image).argmax() for image in images]

    assert digits == [int(name)] * 2
    assert shipped.score(images[1]).is_digit > 0.9


@pytest.mark.parametrize("text", ["2", "5", "7", "42", "305", "2048"])
def test_a_line_below_a_number_is_no_part_of_it(text, shipped):
    underlined = drawn(*text)
    underlined[-42:-36, 40:-40] = 0

    assert text_of(read_number(encode(underlined), shipped)) == text
    if len(text) > 1:
        with pytest.raises(SeveralDigits):
            read_one(encode(underlined), shipped)


@pytest.mark.parametrize("text", ["3284", "5824", "2583", "8432", "4528", "3582"])
@pytest.mark.parametrize(("cell", "ink"), [(20, 240), (40, 255)])
def test_cells_that_touch_are_one_row(text, cell, ink, detecting):
    counter = Image.new("L", (80 + 70 * len(text), 190), 90)
    draw = ImageDraw.Draw(counter)
    for i, digit in enumerate(text):
        x = 40 + 70 * i
        draw.rectangle((x + 2, 40, x + 67, 149), fill=cell)
        draw.text((x + 35, 95), digit, ink, font_size=84, anchor="mm")

    number = read_number(encode(np.asarray(counter)), detecting)

    assert text_of(number) == text


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("is_light", [False, True])
@pytest.mark.parametrize("gap", [45, 60])
def test_tiles_side_by_side_are_refused(n, is_light, gap, shipped):
    tile = drawn("5", top=30)[:, 20:-20]
    page = np.full((tile.shape[0] + 2 * gap, n * (tile.shape[1] + gap) + gap), 0, np.uint8)
    for i in range(n):
        x = gap + i * (tile.shape[1] + gap)
        page[gap:-gap, x : x + tile.shape[1]] = tile
    upload = encode(255 - page if is_light else page)

    for read in (read_one, read_number):
        with pytest.raises(InvalidImage, match="several tiles"):
            read(upload, shipped)


def test_digits_that_touch_are_cut(shipped):
    levels = drawn("6", "3", gap=-PEN - 2)

    assert text_of(read_number(encode(levels), shipped)) == "63"


def test_an_equals_sign_is_no_number(detecting):
    with pytest.raises(InvalidImage, match="does not look like a digit"):
        read_number(encode(drawn("=")), detecting)


@pytest.fixture
def two_rows() -> bytes:
    rows = drawn("3", "7", top=20), drawn("2", "5", top=20)
    width = min(levels.shape[1] for levels in rows)
    return encode(np.concatenate([levels[:, :width] for levels in rows]))


def test_several_rows_are_refused(two_rows, shipped):
    with pytest.raises(InvalidImage, match="several rows"):
        read_number(two_rows, shipped)


def test_several_rows_are_no_single_digit(two_rows, detecting):
    with pytest.raises(InvalidImage, match="several rows"):
        read_one(two_rows, detecting)


def test_a_long_number_is_no_noise_of_specks(detecting):
    with pytest.raises(SeveralDigits, match="holds 15 digits"):
        read_one(encode(drawn(*"720" * 5, height=60)), detecting)


def test_more_digits_than_twenty_are_refused(shipped):
    levels = drawn(*"720" * 7, height=60)

    for read in (read_number, read_one):
        with pytest.raises(InvalidImage, match="more than 20 digits"):
            read(encode(levels), shipped)


def assert_boxes(number, levels: np.ndarray, scale: float = 1.0):
    """Assert that the boxes surround the ink of each digit, within two pixels or one percent."""
    ink = levels < 128
    columns = np.flatnonzero(np.diff(np.r_[False, ink.any(0), False])).reshape(-1, 2)
    assert len(columns) == len(number.digits)
    slack = max(2, 0.01 * max(levels.shape)) * scale
    for digit, (left, right) in zip(number.digits, columns, strict=True):
        rows = np.flatnonzero(ink[:, left:right].any(1))
        expected = np.array([left, rows[0], right, rows[-1] + 1]) * scale
        x, y, width, height = digit.box
        np.testing.assert_allclose([x, y, x + width, y + height], expected, atol=slack)


def test_boxes_are_in_pixels_of_the_upload(shipped):
    levels = drawn("2", "0", "4")

    assert_boxes(read_number(encode(levels), shipped), levels)


@pytest.mark.parametrize("scale", [4, 12])
def test_boxes_of_a_large_picture_are_in_its_own_pixels(scale, shipped):
    levels = drawn("2", "0", "4")
    large = np.kron(levels, np.ones((scale, scale), np.uint8))

    assert_boxes(read_number(encode(large), shipped), levels, scale)


def test_boxes_of_small_digits_in_a_large_picture_are_in_its_pixels(shipped):
    levels = np.pad(drawn("2", "0", "4"), ((900, 40), (30, 700)), constant_values=255)

    assert_boxes(read_number(encode(levels), shipped), levels)


@pytest.mark.parametrize("orientation", [3, 6])
def test_boxes_are_in_pixels_of_the_upright_picture(orientation, shipped):
    levels = drawn("2", "0", "4")
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encode(Image.fromarray(levels).transpose(turn), "JPEG", quality=95, exif=exif)

    assert_boxes(read_number(turned, shipped), levels)


def test_boxes_on_a_plate_are_in_pixels_of_the_page(shipped):
    tile = 255 - drawn("2", "0", "4")
    page = np.pad(tile, ((70, 90), (110, 60)), constant_values=250)

    number = read_number(encode(page), shipped)

    assert text_of(number) == "204"
    assert_boxes(number, np.pad(255 - tile, ((70, 90), (110, 60)), constant_values=255))


def test_an_mnist_image_is_one_digit_with_the_box_of_its_ink(drawn_image, shipped):
    number = read_number(encode(drawn_image), shipped)

    (digit,) = number.digits
    np.testing.assert_array_equal(digit.image, drawn_image)
    x, y, width, height = digit.box
    outside = drawn_image.copy()
    outside[y : y + height, x : x + width] = 0
    assert not outside.any()


@pytest.fixture(scope="module")
def drawn_image(digits):
    return digits.test.images[0]


class Counting:
    """A classifier that counts the images which it scores."""

    def __init__(self, classifier):
        self.classifier, self.n_images = classifier, 0
        self.detector, self.classes = classifier.detector, classifier.classes

    def score(self, images):
        self.n_images += len(images)
        return self.classifier.score(images)


def test_five_hundred_specks_cost_a_bounded_number_of_hypotheses(shipped):
    picture = Image.fromarray(drawn("3", "7", height=150))
    pencil = ImageDraw.Draw(picture)
    rng = np.random.default_rng(0)
    for x, y in rng.uniform(0, 1, (500, 2)) * picture.size:
        pencil.ellipse((x - 3, y - 3, x + 3, y + 3), fill=0)
    counting = Counting(shipped)

    with contextlib.suppress(InvalidImage):
        read_number(encode(picture), counting)

    assert counting.n_images <= 2 * MAX_SEGMENTS


def test_a_picture_of_nothing_but_specks_is_no_number(shipped):
    mask = np.random.default_rng(0).random((120, 200)) < 0.02

    with pytest.raises(InvalidImage):
        read_number(encode(np.where(mask, 0, 255).astype(np.uint8)), shipped)


@pytest.mark.parametrize("limit", [100, 1000])
def test_the_limit_of_pixels_holds(limit, shipped):
    for read in (read_number, read_one):
        with pytest.raises(InvalidImage, match=f"at most {limit:,}"):
            read(encode(drawn("7")), shipped, limit)


def test_boxes_do_not_overlap_and_are_in_reading_order(shipped):
    number = read_number(encode(drawn(*"720483")), shipped)

    lefts = [digit.box[0] for digit in number.digits]
    assert lefts == sorted(lefts)
    for one, next_one in pairwise(number.digits):
        assert one.box[0] + one.box[2] <= next_one.box[0] + 2


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_picture_is_read_or_refused_as_invalid_image(shipped, data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    h, w = draw(1, 90), draw(1, 300)
    rng = np.random.default_rng(draw(0, 1000))
    levels = np.full((h, w), draw(0, 255), np.uint8)
    for _ in range(draw(0, 12)):
        top, left = draw(0, h - 1), draw(0, w - 1)
        levels[top : draw(top, h), left : draw(left, w)] = draw(0, 255)
    if data.draw(st.booleans()):
        levels ^= rng.integers(0, draw(1, 255), (h, w), np.uint8)
    for read in (read_number, read_one):
        with contextlib.suppress(InvalidImage):
            read(encode(levels), shipped)
