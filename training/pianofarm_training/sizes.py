"""The sizes a house model can be asked for by name, and how long each is trained. No networks here."""

from __future__ import annotations

from dataclasses import fields, replace

from pianofarm_common.errors import BadOption
from pianofarm_training.initial import Size

#: The packaged model is "base". A key costs the same to render whatever the size: the networks are evaluated once a key.
SIZES = {
    "small": Size(hidden=64, key_embedding=12, index_embedding=8, pair_embedding=6, time_hidden=24, gain_hidden=24),
    "base": Size(),
    "large": Size(hidden=320, key_embedding=32, index_embedding=24, pair_embedding=16, time_hidden=48, gain_hidden=80),
}


def size_named(name: str, effort: float = 1.0) -> Size:
    """A size by its name.

    Args:
        name: "small", "base" or "large".
        effort: how many times the usual number of steps to train; a hundredth shows whether a data set works at all.

    Raises:
        BadOption: no such size, or an effort out of range.
    """
    if name not in SIZES:
        raise BadOption(f"--size {name}: must be {', '.join(SIZES)}")
    if not 0.001 <= effort <= 100:
        raise BadOption(f"--effort {effort:g}: must be 0.001 to 100 times the usual number of steps")
    size = SIZES[name]
    steps = {f.name: getattr(size, f.name) for f in fields(size) if f.name.endswith("_steps")}
    return replace(size, **{name: max(1, round(n * effort)) for name, n in steps.items()})
