"""Functions of one float32 as the published code gets them from TensorFlow on a CPU, to the last bit. Scalars and tables only.

Partial k of a string is k times its fundamental, so a fundamental that is off by its last bit turns partial 100 by 0.01 rad in 3
seconds: too little to hear, enough to spoil a comparison sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Array = NDArray[np.float32]

#: exp(x) = 2^m (1 + r + r^2 p(r)): coefficients of p, from r^0, in Eigen's `pexp_float`.
_EXP = (
    0.49999988079071044921875,
    0.16666518151760101318359375,
    4.166965186595916748046875e-2,
    8.36894474923610687255859375e-3,
    1.37449637986719608306884765625e-3,
)


def exp(x: ArrayLike) -> _Array:
    """Eigen's exponential: a polynomial with fused multiply-adds; 46 % of NumPy's values differ from it, in the last bit."""
    x = np.asarray(x, np.float32)
    m = np.floor(_fused(x, 1.44269504088896341, 0.5))
    r = _fused(m, 2.12194440e-4, _fused(m, -0.693359375, x))
    r2 = r * r
    even = _fused(r2, _fused(r2, _EXP[4], _EXP[2]), _EXP[0])
    odd = _fused(r2, _EXP[3], _EXP[1])
    return np.ldexp(_fused(r2, _fused(r, odd, even), r + np.float32(1)), m.astype(np.int32))


def exp2(x: ArrayLike) -> _Array:
    """2 to the power of x, correctly rounded."""
    return _rounded(np.exp2, x)


def tanh(x: ArrayLike) -> _Array:
    """The hyperbolic tangent, correctly rounded."""
    return _rounded(np.tanh, x)


def _fused(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> _Array:
    """The product plus c, rounded once: products of float32 are exact in float64."""
    factors = [np.asarray(value, np.float32).astype(np.float64) for value in (a, b, c)]
    return (factors[0] * factors[1] + factors[2]).astype(np.float32)


def _rounded(function: Callable[[NDArray[np.float64]], NDArray[np.float64]], x: ArrayLike) -> _Array:
    return function(np.asarray(x, np.float32).astype(np.float64)).astype(np.float32)
