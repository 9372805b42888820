"""Classify images on the machines of a Ray cluster, or on this one without a cluster.

python examples/ray_classify.py images.npy|FOLDER ANSWERS [--workers N]

Writes CSV files with the columns of digits-classify into the folder ANSWERS. Every machine
needs the packages of examples/requirements.txt, this repository's `service`, and the same
paths to the pictures.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import ray

# of a CPU, which Ray keeps for a worker: its tasks that read and write need the other half
SHARE = 0.5
BATCH = 1_000  # images, or pictures, that a worker classifies at a time
Batch = dict[str, Any]  # columns: an array, or a list, for each name


class Classify:
    """A worker: it loads the model once, and then classifies batches."""

    def __init__(self, path: str) -> None:
        from service import Digits

        self.digits, self.path = Digits.load(), path

    def __call__(self, batch: Batch) -> Batch:
        """Return the answers for images of an array, or for picture files."""
        if "bytes" in batch:
            names = batch["path"].tolist()
            answers = [self._read(upload) for upload in batch["bytes"]]
        else:
            names = [f"{self.path}[{i}]" for i in batch["id"]]
            images = np.load(self.path, mmap_mode="r")[batch["id"]]
            answers = self.digits.read_images(images)
        return {"file": names} | _columns(answers)

    def _read(self, upload: bytes) -> Any:
        from service import InvalidImage

        try:
            return self.digits.read(upload)
        except InvalidImage as error:
            return error


def _columns(answers: list[Any]) -> Batch:
    """Return the columns of answers: of a refused picture, P(digit) and the error."""
    is_read = [not isinstance(each, ValueError) for each in answers]
    pairs = list(zip(answers, is_read, strict=True))
    return {
        "digit": [each.digit if read else None for each, read in pairs],
        "probability": [each.probability if read else None for each, read in pairs],
        "is_digit": [getattr(each, "is_digit", None) for each in answers],
        "error": [None if read else str(each) for each, read in pairs],
    }


def main() -> None:
    """Classify what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    flags = parser.parse_args()
    path = str(flags.pictures.resolve())
    # the answers keep the order of the pictures
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    if flags.pictures.is_dir():
        pictures = ray.data.read_binary_files(path, include_paths=True)
    else:
        # rows of numbers: each worker reads its images from the file
        n_images = len(np.load(path, mmap_mode="r"))
        pictures = ray.data.range(n_images, override_num_blocks=-(-n_images // BATCH))
    answers = pictures.map_batches(
        Classify,
        fn_constructor_args=[path],
        batch_size=BATCH,
        concurrency=flags.workers,
        num_cpus=SHARE,
    )
    answers.write_csv(str(flags.answers.resolve()))


if __name__ == "__main__":
    main()
