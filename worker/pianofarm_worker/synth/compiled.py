"""The decorator for loops that NumPy has no single call for: compiled by Numba when first called, kept on disk. No loops here.

Not for products of matrices, which BLAS does better, nor for exponentials and the like, which NumPy does several at a time; unless
they are polynomials written out in the loop (`published.controls`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of arrays and numbers, once for every combination of types it is called with.

    Compiled code holds no lock, so that other threads go on. It computes every element as written, nothing reordered or fused. It
    does not look whether an index lies within its array (`NUMBA_BOUNDSCHECK=1` does). Innermost loops handle several elements at
    a time where they count through rows taken before (`row[i]`, not `array[k, first + i]`): three times faster.

    Machine code is kept beside the source, else in the user's cache folder or in the one that `NUMBA_CACHE_DIR` names; where none
    can be written, every process compiles it again. It is made anew when its module has changed: what it calls must be there too.
    """
    return _compiled(function, fused=False)


def compiled_fused(function: Callable[P, R]) -> Callable[P, R]:
    """As `compiled`, but a product may be rounded together with the sum it goes into: a third less time for polynomials.

    Machines of another type may then give other last bits, as those of other libraries do.
    """
    return _compiled(function, fused=True)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A function that compiled loops call, written into their code: around a call they would handle one element at a time."""
    from numba import njit

    return njit(inline="always")(function)  # type: ignore[no-any-return]


def _compiled(function: Callable[P, R], *, fused: bool) -> Callable[P, R]:
    from numba import njit

    _leave_out_blas()
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"} if fused else False}
    try:
        return njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # "no locator available": nowhere to keep it
        return njit(**options)(function)  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _leave_out_blas() -> None:
    """Get Numba ready without SciPy's linear algebra, which it imports only to see whether it is there: 0.3 s of a start.

    A Numba that asks in another way gets ready as it likes.
    """
    from numba.np import linalg

    asked = getattr(linalg, "ensure_blas", None)
    if asked is None:
        return
    linalg.ensure_blas = _no_blas
    try:
        import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = asked


def _no_blas() -> None:
    """Say what Numba takes for the absence of BLAS."""
    raise ImportError("compiled loops call no BLAS")
