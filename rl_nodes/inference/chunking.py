# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Play policies that answer an observation with the actions of several periods, a chunk.

T. Z. Zhao, V. Kumar, S. Levine and C. Finn 2023, arXiv:2304.13705 (ACT). Row i of a chunk (H, A)
belongs to the state i · spacing control periods after the one that was observed; rows are
interpolated linearly in between. While chunks are executed, the next one is inferred from the
newest observation in a thread of its own. By the time it is there its first rows lie in the past:
a state finds its row by its stamp, so they are skipped, whatever the delay. Where several chunks
speak of a state, oldest first and with age_j how many periods chunk j was observed after the
oldest one, they are blended,

    ensemble    action = sum_j w_j action_j / sum_j w_j,   w_j = exp(-decay · age_j)           (1)
    crossfade   each new chunk takes over from those before it in equal steps                  (2)

where (1) is ACT's temporal ensemble once a chunk comes every period. A row is never used after its
time: when no chunk speaks of a state there is no action, and what watches the commands holds.

Legend: H rows of a chunk, A actions, O observation.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math
import threading
from typing import Annotated, Literal

import msgspec
import numpy as np
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns

MOST_CHUNKS = 128  # kept at once; beyond that the oldest is forgotten


class ChunkLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What a policy's answer means in time.

    :param horizon: H, rows of a chunk.
    :param spacing: control periods between two rows.
    """

    horizon: Annotated[int, msgspec.Meta(ge=2, le=1000)]
    spacing: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1

    @property
    def last(self) -> int:
        """Return how many periods after the observation the last row is due."""
        return (self.horizon - 1) * self.spacing


@dataclass(frozen=True)
class Blend:
    """
    What becomes of a state that several chunks speak of.

    :param kind: ``ensemble``, eq. (1), or ``crossfade``, eq. (2).
    :param decay: of (1), per period; 0 for the mean, more for the older chunks.
    :param fade_steps: of (2), periods until a new chunk has taken over; 0 for at once.
    """

    kind: Literal['ensemble', 'crossfade'] = 'ensemble'
    decay: float = 0.01
    fade_steps: int = 4


class _Chunk:
    """A chunk with the stamp of its observation; ``since`` is the first period it was used in."""

    def __init__(self, rows: np.ndarray, stamp_ns: int) -> None:
        self.rows, self.stamp_ns = rows, stamp_ns
        self.since: int | None = None


class ChunkQueue:
    """
    The chunks that are being executed.

    :param layout: of every chunk.
    :param actions: A.
    :param period_ns: control period [ns].
    :param blend: how chunks are blended.
    """

    def __init__(self, layout: ChunkLayout, actions: int, period_ns: int, blend: Blend) -> None:
        self._layout = layout
        self._shape = (layout.horizon, actions)
        self._period_ns = period_ns
        self._blend = blend
        self._chunks: list[_Chunk] = []

    def __len__(self) -> int:
        return len(self._chunks)

    def add(self, chunk: np.ndarray, stamp_ns: int) -> None:
        """
        Take a chunk.

        :param chunk: shape (H, A); it is copied.
        :param stamp_ns: of the state whose observation it answers.
        :raises SpecError: wrong shape, or not finite; the chunks that are there go on.
        """
        if chunk.shape != self._shape:
            raise SpecError(f'a chunk of shape {list(chunk.shape)} came, expected '
                            f'{list(self._shape)}')
        if not np.isfinite(chunk).all():
            row, column = np.argwhere(~np.isfinite(chunk))[0]
            raise SpecError(f'a chunk with action {column} = {chunk[row, column]} in row {row} '
                            'came, expected finite values')
        self._chunks.append(_Chunk(np.array(chunk, np.float32), stamp_ns))
        self._chunks.sort(key=lambda known: known.stamp_ns)
        del self._chunks[:-MOST_CHUNKS]

    def clear(self) -> None:
        """Forget every chunk."""
        self._chunks.clear()

    def action(self, stamp_ns: int) -> np.ndarray | None:
        """
        Return the action for a state, shape (A,), float32; None where no chunk speaks of it.

        Chunks that end before this state are forgotten, so states must come in order.
        """
        self._chunks = [chunk for chunk in self._chunks
                        if self._age(chunk, stamp_ns) <= self._layout.last]
        speaking = [chunk for chunk in self._chunks if chunk.stamp_ns <= stamp_ns]
        if not speaking:
            return None
        actions = [self._row(chunk, stamp_ns) for chunk in speaking]
        if self._blend.kind == 'ensemble':
            return self._ensemble(speaking, actions)
        return self._crossfade(speaking, actions, stamp_ns)

    def _age(self, chunk: _Chunk, stamp_ns: int) -> int:
        """Return how many periods a state lies after the one that a chunk was observed in."""
        return round((stamp_ns - chunk.stamp_ns) / self._period_ns)

    def _row(self, chunk: _Chunk, stamp_ns: int) -> np.ndarray:
        """Return what a chunk says of a state, shape (A,)."""
        row, part = divmod(self._age(chunk, stamp_ns), self._layout.spacing)
        here: np.ndarray = chunk.rows[row]
        if not part:
            return here
        return here + (chunk.rows[row + 1] - here) * np.float32(part / self._layout.spacing)

    def _ensemble(self, chunks: list[_Chunk], actions: list[np.ndarray]) -> np.ndarray:
        weights = np.array([math.exp(-self._blend.decay * self._age(chunks[0], chunk.stamp_ns))
                            for chunk in chunks])
        return (weights @ np.array(actions) / weights.sum()).astype(np.float32)

    def _crossfade(self, chunks: list[_Chunk], actions: list[np.ndarray],
                   stamp_ns: int) -> np.ndarray:
        now = round(stamp_ns / self._period_ns)
        blended = actions[0]
        for index, (chunk, action) in enumerate(zip(chunks, actions, strict=True)):
            if chunk.since is None:
                chunk.since = now
            share = np.float32(min(1.0, (now - chunk.since + 1) / (self._blend.fade_steps + 1)))
            blended = action if index == 0 else blended + (action - blended) * share
            if share == 1.0:  # those before it have no say any more, now or later
                self._chunks = [kept for kept in self._chunks if kept.stamp_ns >= chunk.stamp_ns]
        return blended.astype(np.float32)


class ChunkPlayer:
    """
    Plays one policy for one robot; :meth:`act` never waits for an inference that overlaps.

    :param infer: returns the chunk (H, A) for an observation (O,), and pictures where it sees
        some; it may use its memory again.
    :param queue: of this policy and robot alone.
    :param overlap: infer in a thread of its own; otherwise for every state, in :meth:`act`.
    :param clock_ns: steady time [ns].
    :ivar refused: how many chunks were.
    :ivar durations: of the inferences.
    """

    def __init__(self, infer: Callable[..., np.ndarray], queue: ChunkQueue,
                 overlap: bool = True, clock_ns: Callable[[], int] = steady_ns) -> None:
        self._infer = infer
        self._queue = queue
        self._clock_ns = clock_ns
        self._episode = ''
        self._asked: int | None = None       # stamp of the newest observation
        self._waiting: tuple[tuple[np.ndarray, ...], int, str] | None = None
        self._busy_since: int | None = None  # steady time
        self._refusal = ''
        self._fault: BaseException | None = None
        self._ended = False
        self.refused, self.durations = 0, LatencyWindow(256)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name='chunks', daemon=True) \
            if overlap else None
        if self._thread is not None:
            self._thread.start()

    def act(self, observation: np.ndarray, stamp_ns: int, episode: str,
            *pictures: np.ndarray) -> np.ndarray | None:
        """
        Return the action for a state, shape (A,), float32, and have its observation answered.

        :param observation: of the state, shape (O,); it is copied.
        :param stamp_ns: of the state.
        :param episode: of the state; with a new one everything before is forgotten.
        :param pictures: that belong to the observation; nobody writes to them any more.
        :return: None where no chunk speaks of this state, see :meth:`silence`.
        """
        with self._changed:
            if self._fault is not None:
                raise self._fault
            if episode != self._episode:
                self._queue.clear()
                self._episode, self._asked, self._waiting = episode, None, None
            if stamp_ns != self._asked:
                self._asked = stamp_ns
                self._waiting = (observation.copy(), *pictures), stamp_ns, episode
                self._changed.notify()
        if self._thread is None:
            self._answer_one()
        with self._changed:
            return self._queue.action(stamp_ns)

    def silence(self) -> str:
        """Return why there is no action, as far as it is known."""
        since = self._busy_since
        reasons = ['no chunk reaches as far as this state']
        if since is not None:
            reasons.append('an inference has been running for '
                           f'{(self._clock_ns() - since) / NS:.2f} s')
        if self._refusal:
            reasons.append(f'the last refused chunk: {self._refusal}')
        return '; '.join(reasons)

    def close(self) -> None:
        """Infer no more; an inference that is running ends unheard."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def join(self, timeout_s: float) -> bool:
        """
        Wait for an inference that is running, after :meth:`close`; return whether it has ended.

        A process that ends while ONNX Runtime computes is aborted as soon as it is done.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        """Answer the newest observation again and again."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._waiting is not None)
                if self._ended:
                    return
            try:
                self._answer_one()
            except Exception as error:  # raised again by act(), where the node sees it
                self._fault = error
                return

    def _answer_one(self) -> None:
        with self._changed:
            job, self._waiting = self._waiting, None
            if job is None:
                return
            begun = self._busy_since = self._clock_ns()
        seen, stamp_ns, episode = job
        try:
            chunk = self._infer(*seen)
            self.durations.add((self._clock_ns() - begun) / NS)
            with self._changed:
                if episode == self._episode:
                    self._queue.add(chunk, stamp_ns)
                    self._refusal = ''
        except (BundleError, SpecError) as error:
            self.refused += 1
            self._refusal = str(error)
        finally:
            self._busy_since = None
