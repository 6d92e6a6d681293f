# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Who gives a robot's actions: a policy of one period, one with chunks, and who comes next."""

from collections.abc import Callable
import threading
import time
from typing import Any, Protocol

import msgspec
import numpy as np
from rl_nodes.core.errors import SpecError
from rl_nodes.core.types import RobotState
from rl_nodes.inference.batching import Query
from rl_nodes.inference.chunking import Blend, ChunkPlayer, ChunkQueue
from rl_nodes.inference.runtime import PolicyRuntime

PATIENCE_S = 1.0

# The pictures that go with a state; raises PictureError where there are none to go by.
Look = Callable[[RobotState], tuple[np.ndarray, ...]]


def see_nothing(state: RobotState) -> tuple[np.ndarray, ...]:
    """Return no pictures, which is what most policies see."""
    return ()


class Actor(Protocol):
    """
    Gives one robot's actions.

    :ivar label: of the policy behind them, ``<name>@<version>``.
    """

    label: str

    def act(self, observation: np.ndarray, state: RobotState) -> np.ndarray | None:
        """
        Return the action for a state, shape (A,), float32; None for none.

        :raises SpecError: there is none because the observation or the policy is not in order.
        :raises PictureError: a picture that goes with the state is not in order.
        :raises OrderError: the state came after a newer one, and the policy remembers.
        :raises BundleError: the model failed while running.
        """

    def ready(self, observation: np.ndarray, state: RobotState) -> bool:
        """Return whether it has an action for a state; it may have to see some states first."""

    def silence(self) -> str:
        """Return why there is no action."""

    def details(self) -> dict[str, Any]:
        """Return what the status should say besides."""

    def close(self) -> None:
        """Act no more."""

    def join(self, timeout_s: float) -> bool:
        """Wait for what is still being computed after :meth:`close`; return whether it ended."""


class SingleActor:
    """
    A policy that answers each observation with one action, with a memory where it has one.

    :param policy: may be shared with other robots of this thread.
    :param rng: of the exploration noise; None to act without.
    :param look: gives the pictures that it sees.
    :ivar policy: the same.
    """

    def __init__(self, policy: PolicyRuntime, rng: np.random.Generator | None,
                 look: Look = see_nothing) -> None:
        self.label, self.policy = policy.bundle.label, policy
        self._rng, self._look = rng, look
        self._noise: np.ndarray | None = None  # of the last action, where noise is correlated
        if rng is not None and policy.bundle.manifest.noise_correlation is not msgspec.UNSET:
            self._noise = rng.standard_normal(policy.contract.action.shape, np.float32)
        self._memory = policy.memory()

    def act(self, observation: np.ndarray, state: RobotState) -> np.ndarray | None:
        """See the base class."""
        query = self.query(observation, state)
        return (self.policy.act(*query) if self._rng is None
                else self.policy.sample(observation, self._rng, *query[1:], noise=self._noise))

    def query(self, observation: np.ndarray, state: RobotState) -> Query:
        """
        Return what the policy is to be asked for a state, before any later one.

        :raises PictureError: a picture that goes with the state is not in order.
        :raises OrderError: the state came after a newer one, and the policy remembers.
        """
        pictures = self._look(state)
        if self._memory is not None:
            self._memory.before(state.stamp_ns, state.episode)
        return Query(observation, self._memory, pictures)

    def ready(self, observation: np.ndarray, state: RobotState) -> bool:
        """See the base class."""
        return True

    def silence(self) -> str:
        """See the base class."""
        return ''

    def details(self) -> dict[str, Any]:
        """See the base class."""
        return {}

    def close(self) -> None:
        """See the base class."""

    def join(self, timeout_s: float) -> bool:
        """See the base class."""
        return True


class ChunkActor:
    """
    A policy that answers an observation with the actions of several periods.

    :param policy: may be shared with other robots.
    :param period_ns: control period [ns].
    :param blend: of its chunks.
    :param overlap: whether it infers while earlier chunks are executed.
    :param look: gives the pictures that it sees.
    :raises SpecError: the policy has no chunks.
    """

    def __init__(self, policy: PolicyRuntime, period_ns: int, blend: Blend,
                 overlap: bool, look: Look = see_nothing) -> None:
        self.label, self._look = policy.bundle.label, look
        layout = policy.bundle.manifest.chunk
        if layout is None:
            raise SpecError(f'policy {self.label} answers with one action, expected chunks')
        self._player = ChunkPlayer(policy.answer, ChunkQueue(
            layout, len(policy.contract.action.elements), period_ns, blend), overlap)

    def act(self, observation: np.ndarray, state: RobotState) -> np.ndarray | None:
        """See the base class."""
        return self._player.act(observation, state.stamp_ns, state.episode, *self._look(state))

    def ready(self, observation: np.ndarray, state: RobotState) -> bool:
        """See the base class."""
        return self.act(observation, state) is not None

    def silence(self) -> str:
        """See the base class."""
        return f'{self.label}: {self._player.silence()}'

    def details(self) -> dict[str, Any]:
        """See the base class."""
        return {'chunks_refused': self._player.refused, **{
            f'chunk_{name}': value for name, value in self._player.durations.summary().items()}}

    def close(self) -> None:
        """See the base class."""
        self._player.close()

    def join(self, timeout_s: float) -> bool:
        """See the base class."""
        return self._player.join(timeout_s)


class Cast:
    """
    The actor in force and the one that is to follow it between two states.

    One that needs time for its first action takes over once it has it; until then the one before
    it goes on.
    """

    def __init__(self) -> None:
        self._acting: Actor | None = None
        self._coming: Actor | None = None
        self._gone: list[Actor] = []  # those that are still computing
        self._lock = threading.Lock()

    @property
    def acting(self) -> Actor | None:
        """Return the actor in force; None before the first."""
        return self._acting

    def use(self, actor: Actor) -> None:
        """Let an actor follow; from any thread."""
        with self._lock:
            passed_over, self._coming = self._coming, actor
            self._let_go(passed_over)

    def act(self, observation: np.ndarray, state: RobotState) -> np.ndarray | None:
        """Return the action for a state, shape (A,), as :meth:`Actor.act`; None before any."""
        actor = self.turn(observation, state)
        return None if actor is None else actor.act(observation, state)

    def turn(self, observation: np.ndarray, state: RobotState) -> Actor | None:
        """Return who acts in a state, from here on; None before the first."""
        coming = self._coming
        if coming is not None and (self._acting is None or coming.ready(observation, state)):
            with self._lock:
                if self._coming is coming:
                    self._coming = None
                    before, self._acting = self._acting, coming
                    self._let_go(before)
        return self._acting

    def close(self) -> None:
        """Let everybody go, and wait a moment for those that are still computing."""
        with self._lock:
            for actor in (self._acting, self._coming):
                self._let_go(actor)
            self._acting = self._coming = None
        deadline = time.monotonic() + PATIENCE_S
        for actor in self._gone:
            actor.join(max(0.0, deadline - time.monotonic()))

    def _let_go(self, actor: Actor | None) -> None:
        if actor is not None:
            actor.close()
            self._gone = [gone for gone in (*self._gone, actor) if not gone.join(0.0)]
