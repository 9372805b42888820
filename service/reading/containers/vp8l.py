"""Number of groups of prefix codes that the decoder of a lossless WEBP must hold.

A file of 300 KB may define 65,536 groups, whose tables take 400 MB. Their number is at
most the number of pixels of the entropy image, whose size follows the transforms
(RFC 9649, sections 3.4 to 3.7).
"""

from service.reading.errors import InvalidImage

HEAD_BYTES = 5  # signature, width, height, flags
PREDICTOR, COLOUR, INDEXING = 0, 1, 3  # transforms with an image of their own
MIN_GROUP_BITS, MIN_BLOCK = 20, 4  # bits that define a group; pixels of its block's side
FEW_GROUPS, MAX_GROUPS = 2_500, 2**16  # encoders write 2,600 at most
MAX_TRANSFORM_PIXELS = 2**15  # pixels of a transform that are skipped; encoders write 2^14
LENGTH_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
REPEATS = {16: (2, 3), 17: (3, 3), 18: (7, 11)}  # bits and least number of repetitions
N_LITERALS, N_LENGTHS, N_DISTANCES, MAX_LENGTH = 256, 24, 40, 15


def count_groups(data: bytes, width: int, height: int) -> int:
    """Return the most groups of prefix codes that VP8L data without its head can have."""
    blocks = -(-width // MIN_BLOCK) * -(-height // MIN_BLOCK)
    most = min(MAX_GROUPS, blocks, len(data) * 8 // MIN_GROUP_BITS)
    if most <= FEW_GROUPS:
        return most
    bits = _Bits(data)
    kinds: list[int] = []
    while bits.read(1):
        kinds.append(bits.read(2))
        if kinds.count(kinds[-1]) > 1:
            raise InvalidImage("the picture is damaged: the WEBP repeats a transform")
        width = _skip_transform(bits, kinds[-1], width, height)
    bits.skip_cache()
    if not bits.read(1):
        return 1
    return min(most, _n_blocks(width, height, bits.read(3) + 2))


class _Bits:
    """Bits of VP8L data, the least significant first."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def peek(self) -> int:
        """Return at least the next 25 bits; raise InvalidImage at the end of the data."""
        start = self.at >> 3
        if start >= len(self.data):
            raise InvalidImage(
                "the picture is damaged: the WEBP is cut off; send the complete file"
            )
        return int.from_bytes(self.data[start : start + 4], "little") >> (self.at & 7)

    def read(self, n: int) -> int:
        """Return the next n bits, 25 at most, and move on."""
        value = self.peek() & (1 << n) - 1
        self.at += n
        return value

    def skip_cache(self) -> int:
        """Skip the size of a colour cache; return the number of its colours."""
        return 1 << self.read(4) if self.read(1) else 0

    def symbol(self, code: "_Code") -> int:
        """Read a symbol of a canonical prefix code."""
        if len(code.symbols) <= 1:
            return code.symbols[0] if code.symbols else 0
        word = self.peek()
        value = first = index = 0
        for length, count in enumerate(code.counts, 1):
            value |= word & 1
            if value - first < count:
                self.at += length
                return code.symbols[index + value - first]
            word >>= 1
            index, first, value = index + count, first + count << 1, value << 1
        raise InvalidImage("the picture is damaged: the WEBP has an invalid prefix code")

    def repeated(self, symbol: int) -> int:
        """Read the rest of a length or distance whose prefix is the symbol."""
        if symbol < 4:
            return symbol + 1
        extra = symbol - 2 >> 1
        return (2 + (symbol & 1) << extra) + self.read(extra) + 1


class _Code:
    """A canonical prefix code: symbols by length, and the number of each length."""

    def __init__(self, lengths: list[int]) -> None:
        self.counts = [lengths.count(n) for n in range(1, MAX_LENGTH + 1)]
        used = (symbol for symbol, length in enumerate(lengths) if length)
        self.symbols = sorted(used, key=lengths.__getitem__)


def _n_blocks(width: int, height: int, block_bits: int) -> int:
    block = 1 << block_bits
    return -(-width // block) * -(-height // block)


def _skip_transform(bits: _Bits, kind: int, width: int, height: int) -> int:
    """Skip a transform's image; return the width of the picture after the transform."""
    if kind in (PREDICTOR, COLOUR):
        _skip_image(bits, _n_blocks(width, height, bits.read(3) + 2))
    elif kind == INDEXING:
        n_colours = bits.read(8) + 1
        packing = sum(n_colours <= most for most in (2, 4, 16))
        _skip_image(bits, n_colours)
        width = -(-width // (1 << packing))
    return width


def _skip_image(bits: _Bits, n_pixels: int) -> None:
    """Skip an image that is coded by one group of prefix codes."""
    if n_pixels > MAX_TRANSFORM_PIXELS:
        raise InvalidImage("the WEBP has a transform of too many blocks; save it again")
    n_green = N_LITERALS + N_LENGTHS + bits.skip_cache()
    sizes = (n_green, N_LITERALS, N_LITERALS, N_LITERALS, N_DISTANCES)
    green, red, blue, alpha, distance = (_read_code(bits, size) for size in sizes)
    while n_pixels > 0:
        symbol = bits.symbol(green)
        if symbol < N_LITERALS:
            for code in (red, blue, alpha):
                bits.symbol(code)
            n_pixels -= 1
        elif symbol < N_LITERALS + N_LENGTHS:
            n_pixels -= bits.repeated(symbol - N_LITERALS)
            bits.repeated(bits.symbol(distance))
        else:
            n_pixels -= 1


def _read_code(bits: _Bits, n_symbols: int) -> _Code:
    lengths = [0] * n_symbols
    if bits.read(1):
        has_two = bits.read(1)
        lengths[bits.read(8 if bits.read(1) else 1)] = 1
        if has_two:
            lengths[bits.read(8)] = 1
        return _Code(lengths)
    of_lengths = [0] * len(LENGTH_ORDER)
    for symbol in LENGTH_ORDER[: bits.read(4) + 4]:
        of_lengths[symbol] = bits.read(3)
    code = _Code(of_lengths)
    left = 2 + bits.read(2 + 2 * bits.read(3)) if bits.read(1) else n_symbols
    at, previous = 0, 8
    while at < n_symbols and left > 0:
        left -= 1
        length, repeat = bits.symbol(code), 1
        if length in REPEATS:
            n_bits, least = REPEATS[length]
            length, repeat = (previous if length == 16 else 0), bits.read(n_bits) + least
        elif length:
            previous = length
        lengths[at : at + repeat] = [length] * repeat
        at += repeat
    return _Code(lengths[:n_symbols])
