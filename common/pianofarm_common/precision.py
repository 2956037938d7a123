"""Precisions a network can be computed in, and how they enter a render's key. No arithmetic."""

from __future__ import annotations

from typing import Literal, get_args

from pianofarm_common.errors import BadModel
from pianofarm_common.renders import ENGINE_VERSION

#: What the products of a network take; sums, states and everything after the network are float32 in each.
Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def engine_for(architecture: str, precision: Precision) -> str:
    """The engine a `RenderSpec` names: other bytes, another key. Models without a network (house) know one precision."""
    if precision == "float32" or architecture == "house":
        return ENGINE_VERSION
    return f"{ENGINE_VERSION}+{precision}"


def precision_of(engine: str) -> Precision:
    """The precision that the engine of a `RenderSpec` stands for.

    Raises:
        BadModel: no precision that is known here.
    """
    _, separator, name = engine.partition("+")
    if not separator:
        return "float32"
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise BadModel(f"engine {engine!r}: unknown precision {name!r} (known: {', '.join(PRECISIONS)}; update the worker)")
