"""How large a matrix of scores may be at once, by the kind of device: the constants that memory and speed hang on."""

import typing

import tensorflow as tf


class Limits(typing.NamedTuple):
    """The sizes for one kind of device.

    Args:
      matrix_bytes: the largest attention, as float32, that is built in one piece.
      forward_bytes: of a chunk's matrix going forward.
      backward_bytes: of a chunk's matrix going backward, where three or four are held at once.
      queries: of a chunk, at most.
    """

    matrix_bytes: int
    forward_bytes: int
    backward_bytes: int
    queries: int


MIB = 2**20
BY_DEVICE = {
    # Measured on CPUs of 2 cores, benchmarks/attend.py. A chunk's matrix should stay near the last level of cache:
    # going forward three quarters of the size take 4 % longer, and twice the size no less; more than 512 queries gain
    # nothing either way.
    "CPU": Limits(matrix_bytes=64 * MIB, forward_bytes=32 * MIB, backward_bytes=16 * MIB, queries=512),
    # Reasoned, not measured. Each step of a loop starts a dozen kernels and reads its condition on the host, about
    # 0.1 ms: 512 queries of a 100 x 168 map are 9 GFLOP, which an accelerator does in as little. Chunks are therefore
    # sized as shares of a memory of 16 GiB: 1/32 in one piece, 1/64 a chunk going forward and 1/128 going backward,
    # and the queries are bounded by these alone.
    "GPU": Limits(matrix_bytes=512 * MIB, forward_bytes=256 * MIB, backward_bytes=128 * MIB, queries=2**15),
    # Reasoned, not measured: as a GPU. A loop's step costs less here, since the whole loop is compiled, but every
    # chunk streams all keys from the same kind of memory, so that small ones gain nothing.
    "TPU": Limits(matrix_bytes=512 * MIB, forward_bytes=256 * MIB, backward_bytes=128 * MIB, queries=2**15),
}
# Smaller chunks are slower, so that with very many keys a chunk is let grow with them.
LEAST_QUERIES = 64


def of(tensor):
    """The Limits of the device that a tensor is computed on, as far as that is known when a graph is traced."""
    return BY_DEVICE[_device_kind(tensor)]


def _device_kind(tensor):
    placed = tf.DeviceSpec.from_string(tensor.device or "").device_type
    if placed in BY_DEVICE:
        return placed
    # Where a graph says nothing, operations go to the accelerator.
    return next((kind for kind in ("TPU", "GPU") if tf.config.list_logical_devices(kind)), "CPU")
