"""Training runs killed at random times and resumed, compared with a complete run.

python -m benchmarks.resume    (on MNIST if it is there, else on synthetic digits)
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

N_RUNS = 20
TIMEOUT = 600  # seconds
# flags that exercise all of the state: moments, average, order of the rows
FLAGS = (
    *("--recipe", "pixels", "--epochs", "10", "--rule", "adam"),
    *("--learning-rate", "0.001", "--keep", "average", "--checkpoint-every", "0.05"),
)


def start(output: Path, *flags: str) -> subprocess.Popen[str]:
    """Start a training run in a new process."""
    data = ["--data", str(MNIST_FOLDER) if find_mnist() else "synthetic"]
    command = [sys.executable, "-m", "training", *FLAGS, *data, *flags]
    return subprocess.Popen(
        [*command, "--output", str(output)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a run to succeed and return its output."""
    output, _ = process.communicate(timeout=TIMEOUT)
    if process.returncode:
        sys.exit(f"the training run failed with exit status {process.returncode}")
    return output


def run_for(process: subprocess.Popen[str], output: Path, limit: float | None = None) -> float:
    """Return the seconds from the first checkpoint to the end; kill it at the limit."""
    while process.poll() is None and not checkpoint_path(output).exists():
        time.sleep(0.002)
    start_time = time.monotonic()
    try:
        process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return time.monotonic() - start_time


def files(output: Path) -> tuple[bytes, bytes]:
    """Return the bytes of a run's weights and training curve."""
    return output.read_bytes(), output.with_name("metrics.jsonl").read_bytes()


def main() -> None:
    """Kill and resume runs, and count those that end in the same bytes."""
    generator, same = random.Random(0), 0
    with tempfile.TemporaryDirectory() as folder:
        complete = Path(folder, "complete", "digits.safetensors")
        seconds = run_for(start(complete), complete)
        for i in range(N_RUNS):
            killed = Path(folder, str(i), "digits.safetensors")
            after, process = seconds, None
            # a run that ended before it was killed does not count
            while process is None or process.returncode == 0:
                after = generator.uniform(0, seconds)
                process = start(killed)
                run_for(process, killed, after)
            found = re.search(r"from step (\d+)", finish(start(killed, "--resume")))
            is_same = files(killed) == files(complete)
            where = f"resumed at step {found[1]}" if found else "restarted"
            print(
                f"killed {after:.2f} s into {seconds:.2f} s, {where}: "
                f"{'same' if is_same else 'DIFFERENT'} bytes"
            )
            same += is_same
    print(f"{same} of {N_RUNS} resumed runs end in the same bytes as the complete run")


if __name__ == "__main__":
    main()
