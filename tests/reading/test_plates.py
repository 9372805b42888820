"""Digits on tiles, sheets and screens within a picture."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from service.classifier import load
from service.images import read_image, read_levels
from service.number import read_one
from service.reading.plates import find_plate
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import encode


@pytest.fixture(scope="module")
def shipped():
    return load(EMBEDDED_WEIGHTS)


@pytest.fixture(scope="module")
def five(drawn) -> np.ndarray:
    return drawn.test.images[list(drawn.test.labels).index(5)]


def enlarged(digit: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


def page_with(tile: np.ndarray, size: tuple[int, int], at: tuple[int, int], level: int):
    page = np.full(size, level, np.uint8)
    page[at[0] : at[0] + len(tile), at[1] : at[1] + len(tile)] = tile
    return page


def digit_of(upload: bytes, shipped) -> int:
    return int(shipped.predict_proba(read_image(upload)[np.newaxis])[0].argmax())


@pytest.mark.parametrize("side", [150, 200, 284])
@pytest.mark.parametrize("page", [0, 120, 255])
@pytest.mark.parametrize("is_inverted", [False, True])
def test_a_tile_in_a_page_is_read_as_if_it_were_the_picture(side, page, is_inverted, five):
    tile = enlarged(five, side)
    tile = 255 - tile if is_inverted else tile
    picture = page_with(tile, (300, 300), ((300 - side) // 2,) * 2, page)

    read = read_levels(picture)

    assert np.abs(read.astype(float) - read_levels(tile)).mean() < 6


@pytest.mark.parametrize("page", [150, 60])
def test_a_tile_whose_level_is_near_the_page_is_found(page, five):
    tile = np.maximum(enlarged(five, 180), 90)
    picture = page_with(tile, (300, 400), (60, 80), page)

    corners = find_plate(Image.fromarray(picture))

    expected = np.array([[80, 60], [80, 240], [260, 240], [260, 60]]) / (400, 300)
    np.testing.assert_allclose(corners, expected, atol=0.04)


def test_an_axes_with_ticks_and_a_title_is_read(five, shipped):
    picture = Image.new("L", (480, 360), 255)
    picture.paste(Image.fromarray(enlarged(five, 260)), (110, 50))
    pencil = ImageDraw.Draw(picture)
    pencil.rectangle((109, 49, 370, 310), outline=0)
    for i in range(6):
        pencil.line((104, 55 + 46 * i, 109, 55 + 46 * i), 0)
        pencil.text((85, 49 + 46 * i), str(5 * i), 0)
        pencil.line((115 + 46 * i, 310, 115 + 46 * i, 315), 0)
        pencil.text((110 + 46 * i, 318), str(5 * i), 0)
    pencil.text((190, 15), "Label: 8", 0, font_size=20)

    assert digit_of(encode(picture), shipped) == 5


def test_a_tile_in_a_frame_in_a_window_is_read(five, shipped):
    picture = Image.new("RGB", (400, 440), (240, 240, 240))
    pencil = ImageDraw.Draw(picture)
    pencil.rectangle((0, 0, 400, 26), (60, 90, 160))
    pencil.rectangle((70, 80, 330, 340), (60, 60, 60))
    pencil.rounded_rectangle((150, 360, 250, 390), 5, (200, 200, 200))
    picture.paste(Image.fromarray(255 - enlarged(five, 220)), (90, 100))

    assert digit_of(encode(picture), shipped) == 5


@pytest.mark.parametrize("angle", [-8, 4])
def test_a_tilted_sheet_on_a_desk_is_made_level(angle, five):
    sheet = enlarged(five, 200)
    mask = Image.new("L", (400, 400))
    mask.paste(255, (100, 80, 300, 320))
    picture = Image.new("L", (400, 400), 230)
    picture.paste(Image.fromarray(255 - sheet // 8 * 7), (100, 100))
    desk = Image.new("L", (400, 400), 70)
    turned = [each.rotate(angle, Image.Resampling.BILINEAR) for each in (picture, mask)]
    desk.paste(turned[0], mask=turned[1])

    read = read_image(encode(desk.filter(ImageFilter.GaussianBlur(1))))

    assert np.abs(read.astype(float) - read_levels(255 - sheet)).mean() < 12


@pytest.mark.parametrize("gap", [0, 12])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("kind", ["edge", "binding"])
def test_a_strip_along_a_side_is_no_bar_of_the_digit(kind, turns, gap, five):
    """The digit is turned with the picture, so that it stands upright."""
    picture = np.full((240, 240), 235, np.uint8)
    x = np.arange(240)
    picture[:16] = 40 if kind == "edge" else np.where(x % 12 < 8, 30, 150)
    ink = np.rot90(five[4:24, 4:24], -turns)
    ink = enlarged(ink, 110)
    place = picture[16 + gap : 126 + gap, 60:170]
    place[:] = np.minimum(place, 235 - ink * np.float32(0.8))

    read = read_levels(np.rot90(picture, turns).copy())

    expected = read_levels(255 - np.pad(enlarged(five[4:24, 4:24], 110), 40))
    # of a binding that a digit stands on, its teeth may remain below the digit
    limit = 24 if kind == "binding" and gap == 0 else 16
    assert np.abs(read.astype(float) - expected).mean() < limit


@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize("level", [0, 60, 255])
def test_bars_at_two_sides_of_a_photo_are_left_out(level, turns, five):
    noise = np.random.default_rng(3).normal(170, 3, (200, 300))
    photo = np.rint(noise - np.pad(enlarged(five, 200), ((0, 0), (30, 70))) * 0.5)
    bars = np.pad(photo, ((90, 60), (0, 0)), constant_values=level).astype(np.uint8)

    read = read_levels(np.rot90(bars, turns).copy())

    expected = read_levels(np.rot90(photo.astype(np.uint8), turns).copy())
    assert np.abs(read.astype(float) - expected).mean() < 3


def test_serifs_as_wide_as_the_picture_are_no_bars():
    one = np.full((120, 90), 240, np.uint8)
    one[:14] = one[-14:] = one[:, 36:54] = 20

    assert find_plate(Image.fromarray(one)) is None


def test_a_bar_of_a_digit_that_fills_the_picture_is_no_strip(shipped):
    seven = np.full((200, 140), 255, np.uint8)
    seven[:18] = 0
    for y in range(200):
        x = 130 - 80 * y // 200
        seven[y, x - 9 : x + 9] = 0

    assert find_plate(Image.fromarray(seven)) is None
    assert digit_of(encode(seven), shipped) == 7


@pytest.mark.parametrize("bars", [(40, 220), (40, 130, 220)], ids=["0", "8"])
@pytest.mark.parametrize("width", [16, 28])
def test_the_holes_of_a_boxy_digit_are_not_read(bars, width):
    picture = np.zeros((280, 280), np.uint8)
    for y in bars:
        picture[y : y + width, 80:200] = 255
    picture[40 : 220 + width, 80 : 80 + width] = picture[40 : 220 + width, 200 - width : 200] = 255

    read = read_levels(picture)

    middle = read[:, 14] > 128
    assert np.count_nonzero(middle[1:] & ~middle[:-1]) == len(bars)


@pytest.mark.parametrize("pen", [8, 24, 40])
def test_a_round_digit_is_no_plate(pen):
    picture = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(picture).ellipse((50, 30, 230, 250), outline=0, width=pen)

    assert find_plate(picture) is None


@pytest.mark.parametrize("radius", [75, 90, 105])
@pytest.mark.parametrize("digit", [1, 2, 3, 5, 8])
def test_a_digit_on_a_disc_is_read(digit, radius, drawn, shipped):
    image = drawn.test.images[list(drawn.test.labels).index(digit)]
    ink = Image.fromarray(enlarged(image, radius))
    badge = Image.new("RGB", (300, 240), (250, 250, 250))
    ImageDraw.Draw(badge).ellipse(
        (150 - radius, 120 - radius, 150 + radius, 120 + radius), fill=(30, 90, 200)
    )
    badge.paste((255, 255, 255), (150 - radius // 2, 120 - radius // 2), ink)

    assert digit_of(encode(np.asarray(badge)), shipped) == digit


@pytest.mark.parametrize(("side", "x"), [(190, 80), (220, 300), (260, 500)])
@pytest.mark.parametrize("is_dark", [False, True])
def test_a_small_tile_in_a_page_of_text_is_read(is_dark, side, x, drawn, shipped):
    page = Image.new("L", (800, 520), 30 if is_dark else 245)
    draw = ImageDraw.Draw(page)
    for y in range(20, 110, 22):
        draw.text((60, y), "image = images[index]  # shape (28, 28)", 160 if is_dark else 60)
    for digit in (2, 4, 7):
        image = drawn.test.images[list(drawn.test.labels).index(digit)]
        tile = enlarged(255 - image if is_dark else image, side)
        page.paste(Image.fromarray(tile), (x, 150))

        read = read_one(encode(np.asarray(page)), shipped)

        assert shipped.predict_proba(read[np.newaxis])[0].argmax() == digit


@pytest.mark.parametrize(("width", "pen"), [(90, 10), (100, 12), (110, 12)])
@pytest.mark.parametrize("mark", [[(0.5, 0.42), (0.5, 0.58)], [(0.58, 0.38), (0.42, 0.62)]])
def test_a_mark_in_a_small_boxy_zero_is_not_read(mark, width, pen, shipped):
    picture = Image.new("L", (400, 400), 255)
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((140, 120, 140 + width, 270), 14, outline=0, width=pen)
    draw.line([(140 + x * width, 120 + y * 150) for x, y in mark], fill=0, width=pen)

    read = read_one(encode(np.asarray(picture)), shipped)

    assert shipped.predict_proba(read[np.newaxis])[0].argmax() == 0


@pytest.mark.parametrize("width", [90, 100, 110])
@pytest.mark.parametrize("slit", [10, 16])
def test_slits_of_a_small_boxy_eight_are_no_digit_on_a_tile(slit, width, shipped):
    picture = Image.new("L", (400, 400), 255)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((140, 120, 140 + width, 280), fill=0)
    for y in (160, 230):
        draw.rectangle((140 + width // 3, y, 140 + 2 * width // 3, y + slit), fill=255)

    read = read_one(encode(np.asarray(picture)), shipped)

    assert shipped.predict_proba(read[np.newaxis])[0].argmax() == 8


@pytest.mark.parametrize("pen", [50, 60, 70, 80])
@pytest.mark.parametrize("width", [170, 190, 210])
def test_a_bold_zero_is_no_disc_with_a_mark(width, pen):
    picture = Image.new("L", (280, 280), 255)
    box = (140 - width // 2, 40, 140 + width // 2, 240)
    ImageDraw.Draw(picture).ellipse(box, outline=0, width=pen)

    assert find_plate(picture) is None


@pytest.mark.parametrize("shape", ["disc", "oval", "with a handle"])
def test_only_a_whole_disc_is_a_plate(shape):
    picture = Image.new("L", (280, 280), 255)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((70, 30, 210, 250) if shape == "oval" else (40, 40, 240, 240), 60)
    if shape == "with a handle":
        # beyond the upper left of the disc, within its box
        draw.polygon([(41, 105), (105, 41), (41, 41)], 60)
    draw.line([(140, 85), (140, 195)], 255, 26)

    assert (find_plate(picture) is not None) == (shape == "disc")


def test_light_and_shadow_are_no_plates():
    y, x = np.mgrid[:240, :320] / 320
    noise = np.random.default_rng(0).normal(0, 2, y.shape)
    lights = (
        1 - 1.4 * ((x - 0.5) ** 2 + (y - 0.4) ** 2),
        0.5 + 0.5 * x,
        np.where(x + 0.4 * y > 0.5, 0.6, 1),
        np.where(x > 0.3, 0.6, 1),
    )
    for light in lights:
        picture = np.clip(220 * light + noise, 0, 255).astype(np.uint8)
        picture[60:180, 150:156] = 40

        assert find_plate(Image.fromarray(picture)) is None


def test_the_bar_of_a_seven_at_the_top_edge_is_no_strip(shipped):
    picture = Image.new("L", (200, 200))
    ImageDraw.Draw(picture).line([(40, 5), (155, 5), (90, 170)], fill=255, width=11)

    assert find_plate(picture) is None
    assert digit_of(encode(np.asarray(picture)), shipped) == 7
