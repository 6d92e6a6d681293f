# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a recurrent policy remembers between two states of a robot.

Its ONNX file has pairs of state tensors (h and c of an LSTM, h of a GRU): what it gives as the one
is what it is given as the other at the next state, zeros at the first state of an episode. Every
robot has a memory of its own. It advances by one step for every state that is answered:

- a state that comes again is answered from what was remembered before it;
- states that never came, and those that were refused, leave it as it is;
- an answer or a memory that is not finite is refused, and the memory before it kept.
"""

from collections.abc import Callable, Sequence
import math
from typing import Annotated

import msgspec
import numpy as np
from rl_nodes.core.errors import OrderError

SEQUENCE = 32     # steps that a policy with a memory is proven over, from zeros
LEAST_GOLDEN = 20  # of them in a manifest
MOST_TENSORS = 16
MOST_ELEMENTS = 1 << 20  # of all of them together
_ALIGNMENT = 16  # of a tensor's first element: cache lines of 64 bytes


class StateTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A part of a policy's memory, float32.

    :param input: the network's input that takes it.
    :param output: the network's output that becomes this input at the next state.
    :param shape: of both, as in ``(1, 1, 64)``.
    """

    input: str
    output: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=1)], ...]

    @property
    def size(self) -> int:
        """Return how many elements it has."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f'{self.input} <- {self.output} float32[{", ".join(map(str, self.shape))}]'


Layout = tuple[StateTensor, ...]


def problem_of(layout: Layout, reserved: Sequence[str]) -> str | None:
    """
    Return what is wrong with a layout, or None.

    :param reserved: names of inputs and outputs that no state tensor may have.
    """
    names = [name for tensor in layout for name in (tensor.input, tensor.output)]
    if not 0 < len(layout) <= MOST_TENSORS or sum(t.size for t in layout) > MOST_ELEMENTS:
        return (f'has {len(layout)} state tensors of {sum(t.size for t in layout)} elements, '
                f'expected 1 to {MOST_TENSORS} of at most {MOST_ELEMENTS}')
    if len(set(names)) != len(names) or not all(names) or set(names) & set(reserved):
        return (f'names the state tensors {", ".join(names)}; expected names of their own, other '
                f'than {", ".join(reserved)}')
    return None


def shorthand(layout: Layout) -> str:
    """Return the names of a layout as in ``h_in=h_out,c_in=c_out``."""
    return ','.join(f'{tensor.input}={tensor.output}' for tensor in layout)


class Memory:
    """
    The state tensors of one robot in two halves: before and after the newest state.

    :param layout: of the policy.
    :param bind: returns what runs the policy once, given the arrays that it reads as its state
        tensors and those that it writes them to.
    """

    def __init__(self, layout: Layout, bind: Callable[
            [Sequence[np.ndarray], Sequence[np.ndarray]], Callable[[], None]]) -> None:
        steps = [-(-tensor.size // _ALIGNMENT) * _ALIGNMENT for tensor in layout]
        starts = np.cumsum([0, *steps])
        self._halves = np.zeros((2, int(starts[-1])), np.float32)
        first, second = ([half[start:start + tensor.size].reshape(tensor.shape)
                          for tensor, start in zip(layout, starts)] for half in self._halves)
        self._parts = first, second
        self._runs = bind(first, second), bind(second, first)
        self._read = 0  # the half that is read
        self._episode, self._stamp, self._advanced = '', 0, False

    def reset(self) -> None:
        """Forget everything."""
        self._halves[:] = 0.0
        self._advanced = False

    def before(self, stamp_ns: int, episode: str) -> None:
        """
        Be what it was before a state: zeros where the state begins an episode.

        :raises OrderError: the state is older than the newest one of its episode.
        """
        if episode != self._episode:
            self.reset()
        elif stamp_ns < self._stamp:
            raise OrderError(f'state {stamp_ns} came after {self._stamp}, and what the policy '
                             'remembers depends on their order')
        elif stamp_ns == self._stamp and self._advanced:
            self._read = 1 - self._read
        self._episode, self._stamp, self._advanced = episode, stamp_ns, False

    @property
    def present(self) -> Sequence[np.ndarray]:
        """Return the state tensors that the next :meth:`run` reads."""
        return self._parts[self._read]

    @property
    def coming(self) -> Sequence[np.ndarray]:
        """Return the state tensors that it writes, for others to run the policy instead."""
        return self._parts[1 - self._read]

    def run(self) -> None:
        """Run the policy once; the memory stays where it is."""
        self._runs[self._read]()

    def finite(self) -> bool:
        """Return whether what :meth:`run` has written is finite."""
        return bool(np.isfinite(self._halves[1 - self._read]).all())

    def advance(self) -> None:
        """Remember what :meth:`run` has written."""
        self._read = 1 - self._read
        self._advanced = True
