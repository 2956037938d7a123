"""Which array library computes, decided once a process, and the few things that differ between TensorFlow and JAX.

Networks are written in `keras.ops`; nothing else may ask which backend is loaded.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadSettings
from pianofarm_worker.synth.pages import read_pages

BACKENDS = ("tensorflow", "jax")

#: Bytes: where programs of TensorFlow expect an array to begin, so that the widest instructions can load it.
_ALIGNMENT = 64


def choose(name: str, *, n_threads: int = 0) -> None:
    """Decide the backend of this process, before keras is imported.

    Args:
        name: "tensorflow" or "jax". Saying the same name twice does nothing.
        n_threads: CPU threads one computation may use; 0: as many as the machine has. One thread a process and one process a
            core is the best use of a CPU here: a step of the network is too small to share. With TensorFlow other numbers give
            other last bits of the audio; a process that computed with it before keeps the number it had.

    Raises:
        BadSettings: no such backend, its library is not installed, or this process already loaded the other one.
    """
    if name not in BACKENDS:
        raise BadSettings(f"PIANOFARM_BACKEND={name!r}: unknown backend (valid values: {', '.join(BACKENDS)})")
    if "keras" in sys.modules:
        loaded = chosen()
        if loaded != name:
            raise BadSettings(
                f"PIANOFARM_BACKEND={name!r}: this process already computes with {loaded} (start a new process)"
            )
        return
    os.environ["KERAS_BACKEND"] = name
    # Keras writes ~/.keras/keras.json when it is imported, and obeys the one it finds: its float type would change the audio.
    os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    read_pages()
    try:
        if name == "tensorflow":
            _start_tensorflow(n_threads)
        else:
            _start_jax(n_threads)
        import keras
    except ImportError as error:
        extra = "jax" if name == "jax" else "worker"
        raise BadSettings(f"PIANOFARM_BACKEND={name!r}: {error} (pip install 'pianofarm[{extra}]')") from None
    keras.config.set_floatx("float32")


def chosen() -> str:
    """The backend that keras was loaded with."""
    import keras

    return str(keras.backend.backend())


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled by XLA, once for every combination of argument shapes. Arguments: nested dicts and tuples of arrays."""
    if chosen() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False, jit_compile=True)  # type: ignore[no-any-return]
    import jax

    return jax.jit(function)  # type: ignore[no-any-return]


def bind(function: Callable[..., Any], weights: Any) -> Callable[..., Any]:
    """The function compiled by `jit` with its first argument fixed; for programs called a hundred times a second.

    What a call costs beside the computation, with 30 weights: TensorFlow 1 ms by way of `jit`, 0.2 ms here; JAX 0.05 ms.
    """
    if chosen() != "tensorflow":
        return partial(jit(function), weights)
    import tensorflow as tf

    # Tensors of an enclosing scope become arguments of the graph, not constants in it.
    compiled = tf.function(lambda *arguments: function(weights, *arguments), autograph=False, jit_compile=True)
    programs: dict[Any, Any] = {}
    as_tensor = tf.convert_to_tensor if has_accelerator() else _lent

    def call(*arguments: Any) -> Any:
        tensors = [as_tensor(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments]
        shapes = tuple(tuple(argument.shape) for argument in arguments)
        if shapes not in programs:
            programs[shapes] = _without_checks(compiled.get_concrete_function(*tensors))
        return programs[shapes](tensors)

    return call


def _lent(array: NDArray[Any]) -> Any:
    """The array as a tensor of TensorFlow on its memory: `tf.convert_to_tensor` takes 50 us between calls of a program, this 5.

    It must not change as long as the tensor is used. One that is read-only, or does not lie as programs expect it, is copied.
    """
    import tensorflow as tf

    if not array.size:
        return tf.convert_to_tensor(array)
    if not (array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % _ALIGNMENT == 0):
        room = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
        first = -room.ctypes.data % _ALIGNMENT
        copy = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        array = copy
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _without_checks(program: Any) -> Callable[[list[Any]], Any]:
    """A concrete function of TensorFlow as one of the list of its tensors, which are not looked at again: that takes 0.1 ms."""
    flat = getattr(program, "_call_flat", None)  # private, and there since 2.0
    return partial(flat, captured_inputs=program.captured_inputs) if flat else lambda tensors: program(*tensors)


def to_device(arrays: dict[str, NDArray[Any]], kernel_dtype: str = "float32") -> dict[str, Any]:
    """The arrays as tensors of the backend, so that a call does not copy them again.

    Args:
        arrays: by name; those whose name ends in "kernel" are what `product` multiplies with.
        kernel_dtype: of the kernels: float32, bfloat16 or float16.
    """
    import keras

    tensors = {name: _tensor(array) for name, array in arrays.items()}
    if kernel_dtype == "float32":
        return tensors
    return {
        name: keras.ops.cast(tensor, kernel_dtype) if name.endswith("kernel") else tensor
        for name, tensor in tensors.items()
    }


def _tensor(array: NDArray[Any]) -> Any:
    if chosen() == "jax":
        import jax

        # `keras.ops.convert_to_tensor` would have a program compiled for every shape there is: 0.3 s for 20 of them.
        return jax.device_put(array)
    import keras

    return keras.ops.convert_to_tensor(array)


def product(x: Any, kernel: Any) -> Any:
    """X [..., n_in] times a kernel [n_in, n_out] of any precision: x is rounded to it, sums and result are float32."""
    import keras

    dtype = keras.backend.standardize_dtype(kernel.dtype)
    if dtype == "float32":
        return keras.ops.matmul(x, kernel)
    # keras.ops.matmul would give the result in the kernel's precision, a rounding more for every product.
    x = keras.ops.cast(x, dtype)
    if chosen() == "jax":
        import jax.numpy as jnp

        return jnp.matmul(x, kernel, preferred_element_type=jnp.float32)
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.python import xla
    from tensorflow.compiler.xla import xla_data_pb2

    contracted = xla_data_pb2.DotDimensionNumbers(
        lhs_contracting_dimensions=[len(x.shape) - 1], rhs_contracting_dimensions=[0]
    )
    return xla.dot_general(x, kernel, contracted, preferred_element_type=tf.float32)


def has_accelerator() -> bool:
    """Whether the chosen backend computes on a GPU or TPU."""
    if chosen() == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def to_numpy(tensor: Any) -> NDArray[Any]:
    """The tensor as a NumPy array, read-only where the backend shares its memory."""
    return np.asarray(tensor)


def _start_tensorflow(n_threads: int) -> None:
    import tensorflow as tf

    if n_threads:
        # Refused where TensorFlow has computed already; then it keeps the threads it has.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(n_threads)
            tf.config.threading.set_inter_op_parallelism_threads(n_threads)


def _start_jax(n_threads: int) -> None:
    if n_threads == 1 and "jax" not in sys.modules:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".strip()
    import jax

    jax.config.update("jax_enable_x64", False)
