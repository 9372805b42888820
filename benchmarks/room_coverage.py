"""Line coverage of each room, from the data that `make coverage` measures.

python -m benchmarks.room_coverage
"""

import io
import sys
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).parent.parent
MIN_PERCENT = 90.0


def rooms() -> list[str]:
    """List the folders of the two packages that hold modules."""
    return sorted(
        {
            str(path.parent.relative_to(ROOT))
            for package in ("service", "training")
            for path in (ROOT / package).rglob("*.py")
        }
    )


def main() -> None:
    """Print a line for each room; exit with status 1 if one is below the minimum."""
    measured = Coverage()
    measured.load()
    percents = {
        room: measured.report(include=[f"{room}/*.py"], file=io.StringIO()) for room in rooms()
    }
    for room, percent in percents.items():
        print(f"{room:<20}{percent:6.1f} % of lines covered")
    low = [room for room, percent in percents.items() if percent < MIN_PERCENT]
    if low:
        sys.exit(f"less than {MIN_PERCENT:.0f} % of the lines covered: {', '.join(low)}")


if __name__ == "__main__":
    main()
