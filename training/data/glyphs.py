"""Characters of the fonts that matplotlib carries, but those that look like digits."""

import unicodedata
from functools import cache
from pathlib import Path

from PIL import ImageFont

PLAIN_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif"),
    *("DejaVuSerif-Italic", "DejaVuSerif-Bold", "STIXGeneral", "STIXGeneralBol"),
    *("STIXGeneralItalic", "cmr10", "cmss10", "cmti10", "cmtt10", "cmb10"),
)
LARGE_FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral")  # of thousands of characters
FONT_SIZE = 56  # pixels
LATIN = "ACEFGHJKLMNPQRTUVWXYacdefhjkmnprtuvwxy&%#@?!+=<>{}[]$*~^"
# characters of other scripts that look like a digit, and names of those that may
LOOKALIKES = frozenset(
    "ОоΟοⲞσбБЗзЭэƷʒЧчІіΙιƐɛɜƆɔƧƨƼƽƻƾǀǁ∣∕°º●○◯◦•∘∅ØøΘθϴѲѳƟɵ⊘∫ʃſıƖӀ¡ǃΦφϕ∂ბնՕօՑշՏօᑫᑲᓂᓀᒧꞌߊهە"
)
DIGIT_NAMES = (
    *("DIGIT", "NUMBER", "NUMERAL", "BRAILLE", "BOX DRAWINGS", "CIRCLE", "SQUARE", "SHADE"),
    *("BLOCK", "QUADRANT", "HEXAGRAM", "DICE", "DOMINO", "TILE", "TONE"),
)

Glyph = tuple[str, ImageFont.FreeTypeFont]


@cache
def latin() -> list[Glyph]:
    """List the letters and signs of ASCII in every plain font."""
    return [(character, _font(name)) for name in PLAIN_FONTS for character in LATIN]


@cache
def foreign() -> list[Glyph]:
    """List the other letters and symbols of each large font."""
    from matplotlib.ft2font import FT2Font  # takes as long to import as the rest of training

    return [
        (chr(code), _font(name))
        for name in LARGE_FONTS
        for code in sorted(FT2Font(_font_file(name)).get_charmap())
        if code > ord("~") and _is_foreign(chr(code))
    ]


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_file(name), FONT_SIZE)


def _font_file(name: str) -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf")


def _is_foreign(character: str) -> bool:
    category, name = unicodedata.category(character), unicodedata.name(character, "DIGIT")
    return (
        category[0] in "LS"
        and category not in ("Lm", "Sk")
        and not unicodedata.decomposition(character)
        and character not in LOOKALIKES
        and not any(word in name for word in DIGIT_NAMES)
    )
