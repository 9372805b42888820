"""How the learning rate changes over the steps of a run."""

import math
from collections.abc import Callable

# the factor on the rate after the share `done`, in [0, 1), of the steps
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    # Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def factor(schedule: str, step: int, n_steps: int, warm_up: int) -> float:
    """Give the factor on the rate of step 0, 1, ..., n_steps - 1.

    The first `warm_up` steps rise to it evenly, and the schedule has the others.
    Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2
    """
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return SCHEDULES[schedule]((step - warm_up) / (n_steps - warm_up))
