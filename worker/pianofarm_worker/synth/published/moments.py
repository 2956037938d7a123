"""Normalisation by the moments of a whole performance, folded into one pass over it. NumPy only.

`Normalize('layer')` of DDSP takes mean m and variance over time and channels, per voice: every output depends on the whole
performance. What follows it is linear: with r = 1 / sqrt(variance + epsilon),

    ((y - m) r scale + shift) W + b  =  r q + (b + shift W - m r scale W),    q = (y * scale) W.

So one pass gives q and the sums of y and y^2 of every frame, and `Moments` the factor r and the offset afterwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.blocks import Reblock
from pianofarm_worker.synth.long_arrays import parts

#: Added to a variance by `ddsp.training.nn.normalize_op`.
EPSILON = 1e-5


#: Frames added up at a time: the same ones however the performance was cut, so that the sum is the same to the last bit.
_BLOCK_FRAMES = 250


class Moments:
    """The sums of a performance, added in float64, block by block and then the blocks.

    A plain float32 sum over the frames of a piece costs 2.5e-3 in a control, and one by chunks depends on how it was cut.
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]], network: str, *, n_counted: int | None = None) -> None:
        """Start with no frames.

        Args:
            weights: of the model.
            network: "context" or "mono": whose normalisation.
            n_counted: count only the first frames; None: all.
        """
        scale, shift, kernel, bias = (
            weights[f"{network}/{name}"].astype(np.float64)
            for name in ("norm/scale", "norm/shift", "out/kernel", "out/bias")
        )
        self.n_channels = len(scale)
        self.projected_scale = scale @ kernel
        self.offset = shift @ kernel + bias
        self._n_to_come = n_counted
        self._n_frames = 0
        self._cut = Reblock(_BLOCK_FRAMES, 0)
        self._blocks: list[NDArray[np.float64]] = []  # [n_rows, 2] each

    def add(self, sums: NDArray[np.float32]) -> None:
        """Take a chunk's sums of y and y^2 over the channels, [n_frames, n_rows, 2]."""
        counted = sums[: self._n_to_come]
        if self._n_to_come is not None:
            self._n_to_come -= len(counted)
        self._n_frames += len(counted)
        self._blocks += [block.sum(axis=0, dtype=np.float64) for (block,) in self._cut.push(counted)]

    def affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Factor [n_rows, 1] and offset [n_rows, n_out] that turn q into the network's output; nothing can be added any more."""
        self._blocks += [block.sum(axis=0, dtype=np.float64) for (block,) in self._cut.rest()]
        mean, square = np.split(np.sum(self._blocks, axis=0) / (self._n_frames * self.n_channels), 2, axis=1)
        factor = 1.0 / np.sqrt(np.maximum(square - mean**2, 0.0) + EPSILON)
        offset = self.offset - mean * factor * self.projected_scale
        return factor.astype(np.float32), offset.astype(np.float32)

    def normalize(self, q: NDArray[np.float32]) -> None:
        """Turn q [n_frames, n_out] of a network with one row into its output, in place; nothing can be added any more."""
        factor, offset = self.affine()
        for part in parts(q):
            np.multiply(part, factor[0], out=part)
            np.add(part, offset[0], out=part)
