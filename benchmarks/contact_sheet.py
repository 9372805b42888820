"""Contact sheets: many pictures in one, each above its caption."""

from collections.abc import Iterable

from PIL import Image, ImageDraw

TILE, CAPTION, GAP = 112, 14, 6  # pixels
COLUMNS = 10
BACKGROUND, TEXT = (90, 110, 150), (255, 255, 255)  # RGB: neither ink nor paper


def contact_sheet(pictures: Iterable[tuple[Image.Image, str]]) -> Image.Image:
    """Return pictures with captions in rows of COLUMNS, each within TILE pixels."""
    tiles = list(pictures)
    rows = -(-len(tiles) // COLUMNS)
    size = COLUMNS * (TILE + GAP), rows * (TILE + CAPTION + GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    pencil = ImageDraw.Draw(sheet)
    for i, (picture, caption) in enumerate(tiles):
        x, y = i % COLUMNS * (TILE + GAP), i // COLUMNS * (TILE + CAPTION + GAP)
        scale = TILE / max(picture.size)
        side = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        sheet.paste(picture.convert("RGB").resize(side), (x, y))
        pencil.text((x, y + TILE), caption, TEXT)
    return sheet
