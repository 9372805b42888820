"""Progress of a run: the bar, a line per epoch, the training curve."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from tqdm import tqdm

from service.classifier import Classifier, InvalidWeights, softmax
from training.descent import Step
from training.design.rows import Rows
from training.results.evaluation import evaluate, logits
from training.runs.state import Run

CURVE_STEPS = 100  # between points of the curve, each the mean loss of these steps


class Diverged(ArithmeticError):
    """A run whose loss or weights are no longer finite."""

    def __init__(self, what: str, learning_rate: float) -> None:
        super().__init__(
            f"{what}: the descent diverged; lower --learning-rate (now {learning_rate:g})"
        )


@dataclass(eq=False)
class Progress:
    """Records the curve and the best θ of a run, and shows both if `shows`.

    `classifier` turns θ into a classifier, which the validation rows evaluate after
    each epoch.
    """

    bar: "tqdm[Any]"
    run: Run
    classifier: Callable[[Tensor], Classifier]
    validation: Rows
    shows: bool = True

    def watch(self, step: Step) -> None:
        """Record and show a step; raise Diverged if its loss is not finite."""
        if not math.isfinite(step.loss):
            what = f"the loss is {step.loss} at step {step.number}"
            raise Diverged(what, step.learning_rate)
        losses, curve = self.run.losses, self.run.curve
        losses.append(step.loss)
        del losses[:-CURVE_STEPS]
        n_since = step.number - (curve[-1]["step"] if curve else 0)
        if step.ends_epoch or n_since == CURVE_STEPS:
            curve.append(self._point(step))
        if step.ends_epoch:
            losses.clear()
        # the run is complete before anything is printed: a closed pipe raises OSError
        self.bar.total = step.n_steps
        state = f"loss {step.loss:.3f}, rate {step.learning_rate:.3f}"
        self.bar.set_postfix_str(state, refresh=False)
        self.bar.update()
        if step.ends_epoch and self.shows:
            point = curve[-1]
            tqdm.write(
                f"epoch {step.epoch}: loss {point['loss']:.4f}, validation accuracy "
                f"{point['validation']['accuracy']:.4f}, "
                f"NLL {point['validation']['nll']:.4f}"
            )

    def _point(self, step: Step) -> dict[str, Any]:
        """Return a point of the curve; at the end of an epoch, with its validation."""
        loss = sum(self.run.losses) / len(self.run.losses)
        point: dict[str, Any] = {"epoch": step.epoch, "step": step.number}
        point |= {"learning_rate": step.learning_rate, "loss": loss}
        if step.ends_epoch:
            point["validation"] = self._validated(step)
        return point

    def _validated(self, step: Step) -> dict[str, float]:
        """Evaluate θ on the validation rows, and keep it if it is the best so far."""
        theta = self.run.state.theta
        try:
            classifier = self.classifier(theta)
        except InvalidWeights as error:
            what = f"{error} after epoch {step.epoch}"
            raise Diverged(what, step.learning_rate) from error
        probabilities = softmax(logits(classifier, self.validation))
        figures = evaluate(probabilities, self.validation.labels.numpy())
        if figures["nll"] < self.run.least:
            self.run.least = figures["nll"]
            self.run.best.copy_(theta)
        return {name: figures[name] for name in ("accuracy", "nll")}
