"""Draw the README's picture of an explanation, from the service's own reply.

python -m benchmarks.explanation
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from PIL import Image

from service.app import create_app
from service.classifier import load
from service.settings import EMBEDDED_WEIGHTS

DOCS = Path(__file__).parent.parent / "docs"


def draw() -> None:
    """Post docs/digit.png with ?explain=1, and draw the reply."""
    client = create_app(load(EMBEDDED_WEIGHTS)).test_client()
    upload = (DOCS / "digit.png").read_bytes()
    reply = client.post(
        "/predict?explain=1", data=upload, content_type="image/png"
    ).json
    told = reply["explanation"]
    answer, runner_up = told["answer"], told["runner_up"]

    matplotlib.use("agg")
    figure = Figure(figsize=(9, 3.5), layout="constrained", dpi=110)
    posted, seen, why = figure.subplots(1, 3)
    posted.imshow(Image.open(DOCS / "digit.png"), cmap="gray")
    posted.set_title("the picture as posted")
    image = np.array(told["image"])
    seen.imshow(image, cmap="gray")
    seen.set_title("the 28 x 28 the model saw")
    why.imshow(image, cmap="gray", extent=(0, 28, 28, 0))
    largest = max(abs(region["evidence"]) for region in told["regions"])
    for region in told["regions"]:
        evidence, outline = region["evidence"], np.array(region["outline"])
        colour = "tab:blue" if evidence > 0 else "tab:red"
        alpha = 0.65 * abs(evidence) / largest
        why.add_patch(Polygon(outline, facecolor=colour, alpha=alpha))
        why.add_patch(Polygon(outline, fill=False, edgecolor="grey", linewidth=0.5))
        x, y = outline.mean(axis=0)
        why.text(x, y, f"{evidence:+.1f}", color="white", ha="center", va="center")
    why.set(xlim=(0, 28), ylim=(28, 0))
    why.set_title(f"evidence for {answer} against {runner_up}")
    for axes in (posted, seen, why):
        axes.set_axis_off()
    figure.savefig(DOCS / "explanation.png", metadata={"Software": None})


if __name__ == "__main__":
    draw()
