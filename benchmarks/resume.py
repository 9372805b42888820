"""Runs that are killed at random moments and resumed, beside one that was not.

python -m benchmarks.resume    (on MNIST if it is there, else on drawn digits)
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.servers import ROOT
from benchmarks.uploads import MNIST_FOLDER, find_mnist
from training.runs.checkpoints import checkpoint_path

TIMES = 20
# all that a run has to remember: the rule's memory, the average, the order
FLAGS = (
    *("--recipe", "pixels", "--epochs", "10", "--rule", "adam"),
    *("--learning-rate", "0.001", "--keep", "average", "--checkpoint-every", "0.05"),
)


def start(output: Path, *flags: str) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    data = ["--data", str(MNIST_FOLDER) if find_mnist() else "synthetic"]
    command = [sys.executable, "-m", "training", *FLAGS, *data, *flags]
    return subprocess.Popen(
        [*command, "--output", str(output)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a run to end well; give what it said."""
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, process.returncode
    return said


def descending(
    process: subprocess.Popen[str], output: Path, limit: float | None = None
) -> float:
    """Give the seconds from a run's first checkpoint to its end, or kill it before."""
    while process.poll() is None and not checkpoint_path(output).exists():
        time.sleep(0.002)
    began = time.monotonic()
    try:
        process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return time.monotonic() - began


def files(output: Path) -> tuple[bytes, bytes]:
    """Read the weights and the curve of a run."""
    return output.read_bytes(), output.with_name("metrics.jsonl").read_bytes()


def main() -> None:
    """Kill runs, resume them, and count those that end in the same bytes."""
    generator, same = random.Random(0), 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole", "digits.safetensors")
        seconds = descending(start(whole), whole)
        for i in range(TIMES):
            cut = Path(folder, str(i), "digits.safetensors")
            after, process = seconds, None
            while process is None or process.returncode == 0:  # it was too late
                after = generator.uniform(0, seconds)
                process = start(cut)
                descending(process, cut, after)
            said = finish(start(cut, "--resume"))
            step = re.search(r"goes on from step (\d+)|$", said)[1]
            is_same = files(cut) == files(whole)
            where = f"resumed at step {step}" if step else "begun again"
            print(
                f"killed {after:.2f} s into {seconds:.2f}, {where}: "
                f"{'same' if is_same else 'OTHER'} bytes"
            )
            same += is_same
    print(f"{same} of {TIMES} resumed runs end in the same bytes as the whole one")


if __name__ == "__main__":
    main()
