"""Interleaved rounds of measurements, and the spread of their results."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence


def cpu_seconds(work: Callable[[], object]) -> float:
    """Run the work once and return the CPU time of this process in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def interleave(works: Sequence[Callable[[], object]], n_rounds: int) -> list[tuple[float, ...]]:
    """Time every work once per round; return the CPU seconds of each, by round.

    Slow drifts of the machine hit all works alike, so ratios within a round are fair.
    """
    rounds = [[cpu_seconds(work) for work in works] for _ in range(n_rounds)]
    return list(zip(*rounds, strict=True))


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return ours / others for each round."""
    return [our / other for our, other in zip(ours, others, strict=True)]


def spread(values: Iterable[float], form: str = ".2f") -> str:
    """Format the median and the range: "1.20 (1.10 to 1.35)"."""
    values = list(values)
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"
