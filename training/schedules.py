"""Learning-rate schedules."""

import math
from collections.abc import Callable

# the factor on the learning rate when the fraction `done`, in [0, 1), of the steps is
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    # Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def factor(schedule: str, step: int, n_steps: int, warm_up: int) -> float:
    """Return the factor on the learning rate of step 0, 1, ..., n_steps - 1.

    It rises evenly over the first `warm_up` steps; the schedule spans the others.
    Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2
    """
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return SCHEDULES[schedule]((step - warm_up) / (n_steps - warm_up))
