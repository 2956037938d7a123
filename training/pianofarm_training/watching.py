"""Numbers of a training run -> TensorBoard's log, read with `tensorboard --logdir`. Trains nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self


class Watcher:
    """Writes scalars into a folder. TensorFlow, which brings the writer, is loaded when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a point to a curve; what `tf.summary.scalar` writes, which refuses to where TensorBoard itself is not installed."""
        import tensorflow as tf
        from tensorflow.compat.v1 import SummaryMetadata

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._folder))
        with self._writer.as_default():
            plugin = SummaryMetadata.PluginData(plugin_name="scalars")
            metadata = SummaryMetadata(plugin_data=plugin, data_class=1, display_name=name)
            tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=metadata)
