"""Ten times MNIST, its rows mapped and shuffled in blocks: memory and time.

python -m benchmarks.scale    (2 GB of temporary files)
"""

import dataclasses
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.servers import ROOT
from benchmarks.uploads import find_mnist
from training.data.dataset import DataSet
from training.data.synthetic import draw_digits
from training.descent import fit, xavier
from training.design.design_matrix import SHUFFLED_ROWS
from training.design.rows import Rows
from training.gradients import GRADIENTS
from training.runs.state import begin

TIMES, ROUNDS = 10, 5
SETTLED = 0.02  # seconds between two looks at a process
FLAGS = ("--recipe", "pixels", "--epochs", "2")


def write_arrays(data: DataSet, times: int, folder: Path) -> None:
    """Write a data set, its rows so many times over, as .npy files."""
    folder.mkdir()
    for part, digits in (("train", data.train), ("test", data.test)):
        for kind, rows in (("images", digits.images), ("labels", digits.labels)):
            shape = (times * len(rows), *rows.shape[1:])
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            with (folder / f"{part}-{kind}.npy").open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(times):
                    file.write(rows.tobytes())


def most_private(folder: Path) -> float:
    """Run the job on a folder; give the most private memory it had, in MiB."""
    output = folder / "out" / "digits.safetensors"
    command = [sys.executable, "-m", "training", *FLAGS, "--data", str(folder)]
    process = subprocess.Popen(
        [*command, "--output", str(output)],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
    )
    most = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        most = max(most, int(found[1]) if found else 0)
        time.sleep(SETTLED)
    assert process.returncode == 0
    return most / 2**10


def epoch_seconds(rows: Rows) -> float:
    """Run an epoch over rows; give the CPU time it took."""
    run = begin(xavier(rows.values.shape[1] - 1, 10, seed=0), "descent")
    start = time.process_time()
    fit(
        run,
        GRADIENTS["autograd"][False],
        rows,
        learning_rate=0.5,
        batch_size=64,
        epochs=1,
        seed=0,
    )
    return time.process_time() - start


def main() -> None:
    """Measure both, beside MNIST once and beside rows that are in memory."""
    torch.set_num_threads(1)
    data = find_mnist() or draw_digits()
    with tempfile.TemporaryDirectory() as temporary:
        once, often = Path(temporary, "once"), Path(temporary, "often")
        write_arrays(data, 1, once)
        write_arrays(data, TIMES, often)
        memory = {1: most_private(once), TIMES: most_private(often)}
        for times, most in memory.items():
            n = times * len(data.train)
            print(f"{n:>7,} rows of {data.name}: {most:.0f} MiB private at most")
        print(f"{memory[TIMES] - memory[1]:+.0f} MiB\n")
        (path,) = (often / "cache" / "digits" / "phi").glob("train-*.npy")
        matrix = torch.from_numpy(np.load(path, mmap_mode="c"))
        labels = torch.from_numpy(np.load(often / "train-labels.npy").astype(np.int64))
        mapped = Rows(matrix, labels[: len(matrix)], 255, block=SHUFFLED_ROWS)
        held = dataclasses.replace(mapped, values=matrix.clone(), block=None)
        ways = {"in memory, all shuffled": held, "mapped, in blocks": mapped}
        rounds = [
            [epoch_seconds(rows) for rows in ways.values()] for _ in range(ROUNDS)
        ]
        medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
        for name, seconds in zip(ways, medians, strict=True):
            per_step = seconds / -(-len(matrix) // 64) * 1e6
            print(f"{name:<26}{per_step:>6.0f} µs a step{seconds / medians[0]:>7.2f}")


if __name__ == "__main__":
    main()
