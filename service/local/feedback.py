"""The command feedback: the corrections that a service keeps."""

import argparse

from service.feedback import UnknownCorrection, corrections, erase
from service.settings import InvalidSetting, Settings


def feedback(flags: argparse.Namespace, settings: Settings) -> None:
    """List corrections, the oldest first, or erase them."""
    folder = flags.dir or settings.feedback_dir
    if folder is None:
        raise InvalidSetting("no folder of corrections; set DIGITS_FEEDBACK_DIR, or name it: --dir")
    if flags.action == "erase":
        n = erase(folder, flags.names)
        print(f"erased {n:,} correction{'s' * (n != 1)}")
        return
    found = {each.picture.stem: each for each in corrections(folder)}
    if unknown := sorted(set(flags.names) - set(found)):
        raise UnknownCorrection(f"{folder} has no correction {unknown[0]!r}")
    for name in flags.names or found:
        each = found[name]
        shown = "no digit" if each.digit is None else str(each.digit)
        answer = " ".join(f"{key}={value}" for key, value in each.answer.items())
        print(f"{each.time}  {shown}  {each.picture}  {answer}")
