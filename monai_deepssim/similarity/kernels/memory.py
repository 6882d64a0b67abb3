"""Reading where a computed index says, in loops that become vector instructions.

A loop that reads ``table[index[i]]`` and writes ``out[i]`` stays scalar: the compiler cannot know that what it writes
is not read again. :func:`read` and :func:`write` promise that. On a processor that can, one instruction then gathers up
to sixteen pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = ["read", "write"]


def _scope(builder: Any) -> Any:
    """What LLVM calls an alias scope: reads belong to it, and no write does."""
    domain = builder.module.add_metadata(["monai_deepssim"])
    return builder.module.add_metadata([builder.module.add_metadata(["read", domain])])


@intrinsic
def _read(_, array, index):  # type: ignore[no-untyped-def]
    """``array[index]`` of a flat array, for 0 or more, that no :func:`write` of the same loop changes."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        value = builder.load(builder.gep(data, [arguments[1]], inbounds=True))
        value.set_metadata("alias.scope", _scope(builder))
        return value

    return array.dtype(array, index), generate


@intrinsic
def _write(_, array, index, value):  # type: ignore[no-untyped-def]
    """``array[index] = value`` of a flat array, for 0 or more, that no :func:`read` of the same loop reads."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        store = builder.store(arguments[2], builder.gep(data, [arguments[1]], inbounds=True))
        store.set_metadata("noalias", _scope(builder))
        return context.get_dummy_value()

    return types.void(array, index, array.dtype), generate


if TYPE_CHECKING:
    # numba puts the first argument in itself.
    def read(array: np.ndarray, index: Any) -> Any: ...
    def write(array: np.ndarray, index: Any, value: Any) -> None: ...
else:
    read, write = _read, _write
