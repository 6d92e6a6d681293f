# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A policy that answers several robots in one run of ONNX Runtime.

Rows of a product of matrices need not have the bits that they have alone, so before it acts, a
policy's answers to every number of robots are compared with those that it gives to each by itself.
One robot is always answered by itself, with the same bits as without any of this.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.inference.batch_graph import batch_axis, batched
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.memory import Layout, Memory
from rl_nodes.inference.probes import probe_pictures, random_observations
from rl_nodes.inference.runtime import bind, open_session, PolicyRuntime, RUNTIME_ERRORS

Answer = np.ndarray | SpecError | BundleError

# Greatest difference from the answer to a robot by itself: relative, and as a part of half the
# action's range (absolute where it is unbounded).
BATCH_RTOL = 1e-5
BATCH_ATOL = 1e-5
_COMPARED_STEPS = 4  # of each robot, so that what is remembered counts


class Query(NamedTuple):
    """
    What :meth:`PolicyRuntime.act` is asked.

    :param observation: shape (O,), float32, finite.
    :param memory: of :meth:`PolicyRuntime.memory`; None for the policy's own.
    :param pictures: those of the contract, in its order, shapes (H, W, 3), uint8; copied.
    """

    observation: np.ndarray
    memory: Memory | None = None
    pictures: Sequence[np.ndarray] = ()


class BatchRuntime(PolicyRuntime):
    """
    Like its base class, and answers several robots at once.

    :param rows: greatest number of robots, 2 or more.
    :raises BundleError: as the base class; the policy answers with chunks, or its graph does not
        answer several observations as it answers each by itself, or not within a control period.
    """

    def __init__(self, bundle: PolicyBundle, rows: int, threads: int = 1,
                 providers: Sequence[str] = ('cpu',)) -> None:
        super().__init__(bundle, threads, providers)
        label, memory = bundle.label, bundle.manifest.memory
        if bundle.manifest.chunk is not None:
            raise _cannot(label, 'it answers with chunks, each robot at its own time')
        fixed = [tensor for tensor in memory if batch_axis(tensor) is None]
        if fixed:
            raise _cannot(label, f'the state tensor {fixed[0]} has no dimension of size 1 to '
                          'stack robots along')
        try:
            session = open_session(batched(bundle.onnx, memory), threads, providers)
        except BundleError as error:
            raise _cannot(label, str(error)) from None
        self._batches = {count: _Batch(session, self.contract, memory, count)
                         for count in range(2, rows + 1)}
        try:
            self._check_speed(self._batches[rows].run, f'one run for {rows} robots')
            self._check_batches(rows)
        except RUNTIME_ERRORS as error:
            raise _cannot(label, 'its graph does not take several observations: '
                          f'{" ".join(str(error).split())}') from error

    def act_all(self, queries: Sequence[Query]) -> list[Answer]:
        """
        Return what :meth:`act` returns to each of several robots, or raises.

        What is wrong with one of them changes no other's answer.

        :param queries: no two with one memory.
        :return: actions, shape (A,), float32, which the next call overwrites; or errors.
        """
        refused = [self._refusal(query) for query in queries]
        asked = [query for query, why in zip(queries, refused) if why is None]
        answers = iter(self._together(asked))
        return [next(answers) if why is None else why for why in refused]

    def _together(self, queries: Sequence[Query]) -> list[Answer]:
        """Return the answers to queries that are in order."""
        batch = self._batches.get(len(queries))
        if batch is not None:
            batch.load(queries)
            try:
                batch.run()
            except RUNTIME_ERRORS:
                batch = None  # whoever it was, the others are answered by themselves
        if batch is None:
            return [self._alone(query) for query in queries]
        return [self._row(query, batch, row) for row, query in enumerate(queries)]

    def _alone(self, query: Query) -> Answer:
        try:
            return self.act(*query).copy()
        except (SpecError, BundleError) as error:
            return error

    def _row(self, query: Query, batch: '_Batch', row: int) -> Answer:
        """Return the answer in a row of what has been computed."""
        action = batch.actions[row]
        try:
            self._require_finite(action)
            if query.memory is not None:
                batch.store(row, query.memory)
                self._advance(query.memory)
        except SpecError as error:
            return error
        return action

    def _refusal(self, query: Query) -> SpecError | None:
        """Return what is wrong with a query, or None."""
        try:
            self.contract.observation.validate(query.observation)
            self._check_pictures(query.pictures)
        except SpecError as error:
            return error
        return None

    def _check_batches(self, rows: int) -> None:
        """Refuse a graph that answers several robots otherwise than each by itself."""
        probes = random_observations(self.contract.observation)
        numbers = range(rows * _COMPARED_STEPS)
        seen = [(probes[number % len(probes)], probe_pictures(self.contract.pictures, number))
                for number in numbers]

        def asked(step: int, memories: Iterable[Memory | None]) -> list[Query]:
            return [Query(seen[step * rows + row][0], memory, seen[step * rows + row][1])
                    for row, memory in enumerate(memories)]

        alone = [self.memory() for _ in range(rows)]
        wanted = [[self.act(*query).copy() for query in asked(step, alone)]
                  for step in range(_COMPARED_STEPS)]
        low, high = self.contract.action.bounds()
        half = (high - low) / 2
        allowed = BATCH_ATOL * np.where(np.isfinite(half) & (half > 0), half, 1.0)
        for count, batch in self._batches.items():
            memories = [self.memory() for _ in range(count)]
            for step in range(_COMPARED_STEPS):
                queries = asked(step, memories)
                batch.load(queries)
                batch.run()
                for row, query in enumerate(queries):
                    action, expected = self._row(query, batch, row), wanted[step][row]
                    if not isinstance(action, np.ndarray) or not (
                            np.abs(action - expected) <= allowed + BATCH_RTOL * np.abs(expected)
                            ).all():
                        raise _cannot(self.bundle.label, f'of {count} robots it answers number '
                                      f'{row + 1} with {action}, and {expected} to it alone')


class _Batch:
    """
    What a number of robots sees, remembers and is answered, and what runs the model on it.

    :param session: of the model with a batch dimension of any size.
    :param memory: its state tensors.
    :param rows: the number.
    :ivar run: runs the model once.
    :ivar actions: shape (rows, A).
    """

    def __init__(self, session: onnxruntime.InferenceSession, contract: Contract, memory: Layout,
                 rows: int) -> None:
        self._observations = np.zeros((rows, *contract.observation.shape), np.float32)
        self._pictures = [np.zeros((rows, *spec.shape), np.uint8) for spec in contract.pictures]
        self.actions = np.zeros((rows, *contract.action.shape), contract.action.dtype)
        reads = {'observation': self._observations, **{
            spec.input: array for spec, array in zip(contract.pictures, self._pictures)}}
        writes = {'action': self.actions}
        before: list[list[np.ndarray]] = []  # of each state tensor one view per robot
        after: list[list[np.ndarray]] = []
        for tensor in memory:
            axis = batch_axis(tensor) or 0
            shape = (*tensor.shape[:axis], rows, *tensor.shape[axis + 1:])
            for name, arrays, views in ((tensor.input, reads, before),
                                        (tensor.output, writes, after)):
                array = arrays[name] = np.zeros(shape, np.float32)
                views.append(np.split(array, rows, axis))
        self._before, self._after = list(zip(*before)), list(zip(*after))  # by robot
        self.run = bind(session, *({
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array)
            for name, array in arrays.items()} for arrays in (reads, writes)))

    def load(self, queries: Sequence[Query]) -> None:
        """Copy what is asked to where the model reads it."""
        for row, query in enumerate(queries):
            self._observations[row] = query.observation
            for array, picture in zip(self._pictures, query.pictures):
                array[row] = picture
            if query.memory is not None:
                for view, present in zip(self._before[row], query.memory.present):
                    view[...] = present

    def store(self, row: int, memory: Memory) -> None:
        """Copy what a robot will remember to its memory."""
        for coming, view in zip(memory.coming, self._after[row]):
            coming[...] = view


def _cannot(label: str, why: str) -> BundleError:
    return BundleError(f'{label} cannot answer several robots in one run: {why}; start the policy '
                       'server with batch:=false')
