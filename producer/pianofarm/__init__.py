"""The public face of pianofarm: `from pianofarm import Farm`. Imports nothing heavy until a name is used.

farm = Farm.from_env()
job = farm.submit("piece.mid")
job.result().download("piece.wav")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pianofarm.client import Farm
    from pianofarm.handles import Batch, Job, Result
    from pianofarm.submission import Rejected, Submission

__all__ = ["Batch", "Farm", "Job", "Rejected", "Result", "Submission"]

_HOMES = {
    "Batch": "pianofarm.handles",
    "Farm": "pianofarm.client",
    "Job": "pianofarm.handles",
    "Rejected": "pianofarm.submission",
    "Result": "pianofarm.handles",
    "Submission": "pianofarm.submission",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: the command line and the local farm's supervisor need none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pianofarm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
