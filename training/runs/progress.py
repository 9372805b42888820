"""What a person sees of a run while it goes on: a bar, a line an epoch, the curve."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from tqdm import tqdm

from service.classifier import Classifier, InvalidWeights, softmax
from training.descent import Step
from training.design.rows import Rows
from training.results.evaluation import evaluate, logits
from training.runs.state import Run

CURVE_STEPS = 100  # between points of the curve, which tell their mean loss


class Diverged(ArithmeticError):
    """A run whose loss is no longer a number."""


class Progress:
    """Follows the steps of one run, and notes in it its curve and the best θ so far.

    validation: the rows to validate with after each epoch; `tells`: a line of it.
    """

    def __init__(
        self,
        bar: tqdm,
        run: Run,
        classifier: Callable[[Tensor], Classifier],
        validation: Rows,
        tells: bool = True,
    ) -> None:
        self._bar, self._run, self._classifier = bar, run, classifier
        self._validation, self._tells = validation, tells

    def watch(self, step: Step) -> None:
        """Show a step; raise Diverged if its loss is not finite."""
        if not math.isfinite(step.loss):
            raise Diverged(
                f"the loss is {step.loss} at step {step.number}: the descent "
                f"overshoots; lower --learning-rate, here {step.learning_rate:g}"
            )
        losses, curve = self._run.losses, self._run.curve
        losses.append(step.loss)
        del losses[:-CURVE_STEPS]
        n_since = step.number - (curve[-1]["step"] if curve else 0)
        if step.ends_epoch or n_since == CURVE_STEPS:
            self._note(step)
        if step.ends_epoch:
            losses.clear()
        # the run is complete before anything is told, which a closed pipe may prevent
        self._bar.total = step.n_steps
        state = f"loss {step.loss:.3f}, rate {step.learning_rate:.3f}"
        self._bar.set_postfix_str(state, refresh=False)
        self._bar.update()
        if step.ends_epoch and self._tells:
            point = curve[-1]
            tqdm.write(
                f"epoch {step.epoch}: loss {point['loss']:.4f}, validation accuracy "
                f"{point['validation']['accuracy']:.4f}, "
                f"NLL {point['validation']['nll']:.4f}"
            )

    def _note(self, step: Step) -> None:
        loss = sum(self._run.losses) / len(self._run.losses)
        point: dict[str, Any] = {"epoch": step.epoch, "step": step.number}
        point |= {"learning_rate": step.learning_rate, "loss": loss}
        if step.ends_epoch:
            try:
                classifier = self._classifier(self._run.theta)
            except InvalidWeights as error:
                raise Diverged(
                    f"{error} after epoch {step.epoch}: the descent overshoots; lower "
                    f"--learning-rate, here {step.learning_rate:g}"
                ) from error
            z = logits(classifier, self._validation)
            figures = evaluate(softmax(z), self._validation.labels.numpy())
            point["validation"] = {name: figures[name] for name in ("accuracy", "nll")}
            if figures["nll"] < self._run.least:
                self._run.least = figures["nll"]
                self._run.best.copy_(self._run.theta)
        self._run.curve.append(point)
