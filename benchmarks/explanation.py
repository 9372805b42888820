"""The picture of an explanation in docs/api.md.

python -m benchmarks.explanation    (writes docs/explanation.png)
"""

import json
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
    """Post docs/digit.png with ?explain=1 and plot the reply."""
    client = create_app(load(EMBEDDED_WEIGHTS)).test_client()
    upload = (DOCS / "digit.png").read_bytes()
    reply = client.post("/predict?explain=1", data=upload, content_type="image/png")
    explanation = json.loads(reply.data)["explanation"]
    answer, runner_up = explanation["answer"], explanation["runner_up"]

    matplotlib.use("agg")
    figure = Figure(figsize=(9, 3.5), layout="constrained", dpi=110)
    uploaded, classified, evidence_axes = figure.subplots(1, 3)
    uploaded.imshow(Image.open(DOCS / "digit.png"), cmap="gray")
    uploaded.set_title("the uploaded picture")
    image = np.array(explanation["image"])
    classified.imshow(image, cmap="gray")
    classified.set_title("the 28×28 image classified")
    evidence_axes.imshow(image, cmap="gray", extent=(0, 28, 28, 0))
    largest = max(abs(region["evidence"]) for region in explanation["regions"])
    for region in explanation["regions"]:
        evidence, outline = region["evidence"], np.array(region["outline"])
        colour = "tab:blue" if evidence > 0 else "tab:red"
        alpha = 0.65 * abs(evidence) / largest
        evidence_axes.add_patch(Polygon(outline, facecolor=colour, alpha=alpha))
        evidence_axes.add_patch(Polygon(outline, fill=False, edgecolor="grey", linewidth=0.5))
        x, y = outline.mean(axis=0)
        evidence_axes.text(x, y, f"{evidence:+.1f}", color="white", ha="center", va="center")
    evidence_axes.set(xlim=(0, 28), ylim=(28, 0))
    evidence_axes.set_title(f"evidence for {answer} against {runner_up}")
    for axes in (uploaded, classified, evidence_axes):
        axes.set_axis_off()
    figure.savefig(DOCS / "explanation.png", metadata={"Software": None})


if __name__ == "__main__":
    draw()
