"""Connected components of a mask: their boxes, areas and levels."""

import numpy as np
import numpy.typing as npt

from service.reading import morphology
from service.reading.morphology import Grey, Ints, Mask

LEAST_DENSITY = 0.15  # area over size of a digit, of another digit's by the same pen
MIN_AREA = 2  # pixels of a component that counts


class Components:
    """The connected components of a mask (h, w): the box and the area of each."""

    def __init__(self, mask: Mask) -> None:
        h, w = self.shape = mask.shape
        self.runs = runs = morphology.horizontal_runs(mask)
        self.label = morphology.label_runs(runs, w)
        self.area = self._sum(runs.length)
        sides = np.zeros((4, len(self.area)), np.intp)
        self.top, self.left, self.bottom, self.right = sides
        # of the values for one index, the last is assigned; runs are in reading order
        self.top[self.label[::-1]] = runs.row[::-1]
        self.bottom[self.label] = runs.row + 1
        self.left += w
        np.minimum.at(self.left, self.label, runs.start)
        np.maximum.at(self.right, self.label, runs.end)
        self.height, self.width = self.bottom - self.top, self.right - self.left
        self.size = np.maximum(self.height, self.width)
        # whether each touches the border of the picture
        self.touches = (sides == [[0], [0], [h], [w]]).any(0)

    def _sum(self, values: Ints) -> Ints:
        """Sum the values of each component's runs."""
        return np.bincount(self.label, values).astype(np.intp)

    def mean(self, values: Grey) -> npt.NDArray[np.float64]:
        """Return the mean of values in each component: of its pixels, in reading order."""
        first = np.cumsum(self.runs.length) - self.runs.length
        return np.bincount(self.label, np.add.reduceat(values, first)) / self.area

    def box(self, i: int) -> tuple[int, int, int, int]:
        """Return the top, bottom, left and right of component i; bottom and right are exclusive."""
        return int(self.top[i]), int(self.bottom[i]), int(self.left[i]), int(self.right[i])

    def gaps(self, i: int) -> tuple[Ints, Ints]:
        """Return the rows and the columns between each component and i; negative where shared."""
        rows = np.maximum(self.top - self.bottom[i], self.top[i] - self.bottom)
        return rows, np.maximum(self.left - self.right[i], self.left[i] - self.right)

    def are_digits_beside(self, i: int, least: float) -> Mask:
        """Return which components are high and dense enough to be digits beside component i.

        least: their height, of that of component i. An arc of a hairline circle is not dense.
        """
        is_dense = self.area * self.size[i] >= LEAST_DENSITY * self.area[i] * self.size
        are_digits: Mask = (self.height >= least * self.height[i]) & is_dense
        return are_digits

    def are_inside(self, i: int) -> Mask:
        """Return which components lie inside the box of component i and off its sides."""
        are_inside: Mask = (self.top > self.top[i]) & (self.bottom < self.bottom[i])
        are_inside &= (self.left > self.left[i]) & (self.right < self.right[i])
        return are_inside

    def area_within(self, top: int, bottom: int, left: int, right: int) -> Ints:
        """Count the pixels of each component within a box whose ends are exclusive."""
        length = np.minimum(self.runs.end, right) - np.maximum(self.runs.start, left)
        inside = (self.runs.row >= top) & (self.runs.row < bottom)
        return self._sum(np.where(inside, np.maximum(length, 0), 0))

    def area_within_ellipse(self, top: float, bottom: float, left: float, right: float) -> Ints:
        """Count the pixels of each component within the ellipse that fills a box."""
        y = (2 * self.runs.row + 1 - top - bottom) / (bottom - top)
        half = np.sqrt(np.maximum(1 - y * y, 0)) * (right - left) / 2
        low, high = (left + right) / 2 - half, (left + right) / 2 + half
        length = np.minimum(self.runs.end, high) - np.maximum(self.runs.start, low)
        return self._sum(np.maximum(length, 0))
