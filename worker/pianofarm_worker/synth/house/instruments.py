"""Several instruments in one house model: whose parameters and settings are whose. No sound here.

The first instrument's parameters have their own names and its settings stand in the configuration itself, as in a model of one.
Those of number n are named `piano{n}/...`, its settings are entry n of the configuration's list `pianos`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Parameters = dict[str, NDArray[np.float32]]


def prefix(piano: int) -> str:
    """What the names of an instrument's parameters begin with."""
    return f"piano{piano}/" if piano else ""


def parameters_of(parameters: Mapping[str, NDArray[np.float32]], piano: int) -> Parameters:
    """One instrument's parameters, by the names they have in a model of one."""
    if piano == 0:
        return {name: value for name, value in parameters.items() if "/" not in name}
    start = prefix(piano)
    return {name.removeprefix(start): value for name, value in parameters.items() if name.startswith(start)}


def settings_of(config: Mapping[str, Any], piano: int) -> dict[str, Any]:
    """The configuration as one instrument has it.

    Raises:
        IndexError, TypeError: the list `pianos` is too short, or no list.
    """
    if piano == 0:
        return dict(config)
    return {**config, **config["pianos"][piano]}


def names(config: Mapping[str, Any]) -> list[str]:
    """Names of the instruments, by their numbers; of a model of one its own name."""
    pianos = config.get("pianos")
    return [str(piano["name"]) for piano in pianos] if pianos else [str(config["name"])]
