"""The digit-classification service: reads uploads, answers with probabilities."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.local.digits import Answer, Digits, InvalidImage

__version__ = "0.2.0"
__all__ = ["Answer", "Digits", "InvalidImage"]


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is first used: the server does not need it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from service.local import digits

    return getattr(digits, name)
