# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Environments of others: what they do wrong is named, and a call that hangs is noticed."""

from collections.abc import Callable
import math
from pathlib import Path
import sys
import threading
import time
import traceback
from types import FrameType, TracebackType
from typing import Any

import gymnasium
import numpy as np
from rl_nodes.core.errors import BackendError, RlNodesError

_LOOK_S = 0.5  # between two looks of a watch


class Watch:
    """
    Says it when an environment does not return from a call, from a thread of its own.

    :param patience_s: how long a call may take [s].
    :param say: shows a line to a person.
    """

    def __init__(self, patience_s: float, say: Callable[[str], None]) -> None:
        self._patience_s, self._say = patience_s, say
        self._call: tuple[str, float] | None = None
        self._ended = threading.Event()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._look, name='watch', daemon=True)

    def begin(self, what: str) -> None:
        """Note that a call begins."""
        self._call = (what, time.monotonic())

    def end(self) -> None:
        """Note that it has returned."""
        self._call = None

    def hangs(self, frame: FrameType | None = None) -> str:
        """
        Return what has not returned for longer than it may; empty where nothing hangs.

        :param frame: where the watched thread is, as a signal handler knows it; None to look.
        """
        call = self._call
        if call is None or (silence_s := time.monotonic() - call[1]) <= self._patience_s:
            return ''
        stack = traceback.extract_stack(frame or sys._current_frames()[self._watched])
        return f'{call[0]} has not returned for {silence_s:.0f} s ({_place(stack)})'

    def __enter__(self) -> 'Watch':
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        told = None
        while not self._ended.wait(_LOOK_S):
            call = self._call
            if call is not told and (text := self.hangs()):
                told = call
                self._say(f'ALARM: {text}. Training waits; Ctrl-C ends the run')


class CheckedEnv(gymnasium.Wrapper):
    """
    An environment whose faults become one line that says what and where.

    Refused are exceptions, answers of other forms than Gymnasium's or of another shape than the
    space, and observations that are not finite where the episode goes on, since nobody can act on
    them. Other values that are not finite pass: learners refuse those themselves.

    :param name: of the environment in messages.
    :param watch: is told of each call; None for nobody.
    """

    def __init__(self, env: gymnasium.Env, name: str, watch: Watch | None = None) -> None:
        super().__init__(env)
        self._watch = watch
        self._reset, self._step = f'reset() of {name}', f'step() of {name}'
        self._shape, self._type = self.observation_space.shape, self.observation_space.dtype
        self._usual = 'f' if self._type is not None and self._type.kind == 'f' else ''

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[Any, dict[str, Any]]:
        """
        Reset the environment.

        :raises BackendError: it failed, or its answer cannot be used.
        """
        answer = self._called(self._reset, self.env.reset, seed=seed, options=options)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise _wrong(self._reset, answer, 'a pair (observation, info)')
        self._require(self._reset, answer[0], answer[1], goes_on=True)
        return answer

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        Step the environment.

        :raises BackendError: it failed, or its answer cannot be used.
        """
        answer = self._called(self._step, self.env.step, action)
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise _wrong(self._step, answer, 'five values (observation, reward, terminated, '
                         'truncated, info)')
        observation, reward, terminated, truncated, info = answer
        if (type(observation) is np.ndarray and observation.shape == self._shape
                and observation.ndim == 1 and observation.dtype.kind == self._usual
                and isinstance(reward, float) and type(terminated) is bool
                and type(truncated) is bool and type(info) is dict
                and math.isfinite(observation.dot(observation))):
            return answer  # as nearly all are; what follows takes longer
        if not _is_number(reward, 'fiub'):
            raise _wrong(self._step, reward, 'one number as reward')
        for name, value in (('terminated', terminated), ('truncated', truncated)):
            if not _is_number(value, 'biu'):
                raise _wrong(self._step, value, f'True or False for {name}')
        self._require(self._step, observation, info, goes_on=not (terminated or truncated))
        return answer

    def _called(self, what: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        if self._watch is not None:
            self._watch.begin(what)
        try:
            return call(*given, **named)
        except RlNodesError:
            raise
        except Exception as error:  # whatever it is, it is the environment's
            raise BackendError(f'{what} failed: {type(error).__name__}: {error} '
                               f'({_place(traceback.extract_tb(error.__traceback__))})') from error
        finally:
            if self._watch is not None:
                self._watch.end()

    def _require(self, what: str, observation: Any, info: Any, goes_on: bool) -> None:
        values = _array(observation)
        if values.shape != self._shape or not np.can_cast(values.dtype, self._type, 'same_kind'):
            raise _wrong(what, observation, f'an observation of {self.observation_space}')
        if goes_on and values.dtype.kind == 'f' and not np.isfinite(values).all():
            raise _wrong(what, observation, 'finite numbers to act on')
        if not isinstance(info, dict):
            raise _wrong(what, info, 'a dict as info')


def _wrong(what: str, came: Any, expected: str) -> BackendError:
    kind = f'{came.dtype}{list(came.shape)} ' if isinstance(came, np.ndarray) else ''
    text = ' '.join(repr(came).split())
    return BackendError(f'{what} returned {kind}{text if len(text) <= 100 else text[:99] + "…"}; '
                        f'expected {expected}')


def _is_number(value: Any, kinds: str) -> bool:
    """Return whether a value is one number, perhaps in an array, of some kinds of NumPy."""
    array = _array(value)
    return array.size == 1 and array.dtype.kind in kinds


def _array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # lists of different lengths
        return np.asarray(value, object)


def _place(stack: traceback.StackSummary) -> str:
    """Return the innermost line of code."""
    return f'{Path(stack[-1].filename).name}:{stack[-1].lineno}'
