"""Memory and time of training on ten times MNIST, memory-mapped.

python -m benchmarks.scale    (writes 2 GB of temporary files)
"""

import dataclasses
import functools
import os
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.rounds import interleave, ratios, spread
from benchmarks.servers import ROOT
from benchmarks.uploads import find_mnist
from training.data.dataset import DataSet
from training.data.synthetic import draw_digits
from training.descent import fit, start, xavier
from training.design.design_matrix import SHUFFLED_ROWS
from training.design.rows import Rows
from training.gradients import by_autograd
from training.losses import cross_entropy
from training.recipes import PIXELS
from training.runs.distributed import Shards

TIMES, ROUNDS = 10, 5
BATCH_SIZE = 64
POLL_INTERVAL = 0.02  # seconds
FLAGS = ("--recipe", "pixels", "--epochs", "2")


def write_arrays(data: DataSet, times: int, folder: Path) -> None:
    """Write a data set as .npy files, with its rows repeated."""
    folder.mkdir()
    for part, digits in (("train", data.train), ("test", data.test)):
        for kind, rows in (("images", digits.images), ("labels", digits.labels)):
            shape = (times * len(rows), *rows.shape[1:])
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            with (folder / f"{part}-{kind}.npy").open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(times):
                    file.write(rows.tobytes())


def peak_memory(folder: Path) -> float:
    """Train on a folder and return the peak of private memory in MiB."""
    output = folder / "out" / "digits.safetensors"
    command = [sys.executable, "-m", "training", *FLAGS, "--data", str(folder)]
    process = subprocess.Popen(
        [*command, "--output", str(output)],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
    )
    peak = 0  # KiB
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        peak = max(peak, int(found[1]) if found else 0)
        time.sleep(POLL_INTERVAL)
    if process.returncode:
        sys.exit(f"the training run failed with exit status {process.returncode}")
    return peak / 2**10


def run_epoch(rows: Rows) -> None:
    """Run one epoch over the rows."""
    state = start(xavier(rows.values.shape[1] - 1, 10, seed=0), "descent")
    gradient = partial(Shards().mean_gradient, by_autograd(cross_entropy), rows)
    recipe = dataclasses.replace(PIXELS, epochs=1, schedule="constant")
    fit(state, gradient, len(rows), recipe, 0, rows.block)


def main() -> None:
    """Compare the memory with MNIST's and the time with rows held in memory."""
    torch.set_num_threads(1)
    data = find_mnist() or draw_digits()
    with tempfile.TemporaryDirectory() as temporary:
        once, often = Path(temporary, "once"), Path(temporary, "often")
        write_arrays(data, 1, once)
        write_arrays(data, TIMES, often)
        memory = {1: peak_memory(once), TIMES: peak_memory(often)}
        for times, peak in memory.items():
            n = times * len(data.train)
            print(f"{n:>7,} rows of {data.name}: peak private memory {peak:.0f} MiB")
        print(f"difference: {memory[TIMES] - memory[1]:+.0f} MiB\n")
        (path,) = (often / "cache" / "digits" / "phi").glob("train-*.npy")
        matrix = torch.from_numpy(np.load(path, mmap_mode="c"))
        labels = torch.from_numpy(np.load(often / "train-labels.npy").astype(np.int64))
        mapped = Rows(matrix, labels[: len(matrix)], 255, block=SHUFFLED_ROWS)
        held = dataclasses.replace(mapped, values=matrix.clone(), block=None)
        ways = {"in memory, fully shuffled": held, "mapped, in blocks": mapped}
        seconds = interleave([functools.partial(run_epoch, rows) for rows in ways.values()], ROUNDS)
        n_steps = -(-len(matrix) // BATCH_SIZE)
        print(f"median (range) of {ROUNDS} interleaved epochs")
        print(f"{'':<28}{'CPU, µs per step':<26}ratio to in memory")
        for name, epochs in zip(ways, seconds, strict=True):
            per_step = spread((epoch / n_steps * 1e6 for epoch in epochs), ".0f")
            print(f"{name:<28}{per_step:<26}{spread(ratios(epochs, seconds[0]))}")


if __name__ == "__main__":
    main()
