# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The newest picture of each camera of one robot, and whether it may go with a state."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from rl_nodes.core.errors import PictureError
from rl_nodes.core.pictures import Picture, Sight
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns
from rl_nodes.core.types import RobotState

MISSING, STALE, REFUSED = 'picture_missing', 'picture_stale', 'picture_refused'


class _Slot:
    """What has come of one camera; one thread writes, another one reads."""

    def __init__(self) -> None:
        self.newest: Picture | None = None
        self.refusal = ''  # why what came last cannot be used
        self.silence = ''  # why nothing comes
        self.came_ns = 0   # when the newest came, on the steady clock
        self.taken = self.refused = 0
        self.preparing, self.age = LatencyWindow(1024), LatencyWindow(1024)


class PictureDesk:
    """
    Where one thread puts pictures and another one takes the newest.

    In real time the newest picture goes with a state unless their stamps are further apart than
    the task allows, in whichever direction. Where the robot waits, exactly one picture of each
    camera goes with a state, see :meth:`rl_nodes.tasks.base.Task.pictured_at`, and is waited for.

    :param sights: of the task; none where a policy sees no pictures.
    :param pictured_at: stamp [ns] of the picture that goes with a state; None in real time.
    """

    def __init__(self, sights: Iterable[Sight] = (),
                 pictured_at: Callable[[RobotState, Sight], int] | None = None) -> None:
        self._slots = [(sight, _Slot()) for sight in sights]
        self._by_camera = {sight.spec.camera: slot for sight, slot in self._slots}
        self._pictured_at = pictured_at

    def put(self, camera: str, picture: Picture, seconds: float) -> None:
        """
        Take a picture, after which nobody writes to it.

        :param seconds: that were needed to make it what a policy sees.
        """
        slot = self._by_camera[camera]
        slot.newest, slot.refusal, slot.silence = picture, '', ''
        slot.came_ns = steady_ns()
        slot.taken += 1
        slot.preparing.add(seconds)

    def refuse(self, camera: str, why: str) -> None:
        """Take note that what a camera sent last is no picture that a policy can see."""
        slot = self._by_camera[camera]
        slot.refusal, slot.silence = why, ''
        slot.refused += 1

    def explain(self, camera: str, why: str) -> None:
        """Take note of why a camera is silent, for whoever asks for its picture meanwhile."""
        self._by_camera[camera].silence = why

    def awaited(self, state: RobotState) -> str:
        """Return what is still on its way to a state, in words; always empty in real time."""
        if self._pictured_at is None:
            return ''
        late = [sight.spec.camera for sight, slot in self._slots if not slot.refusal and (
            slot.newest is None or slot.newest.stamp_ns != self._pictured_at(state, sight))]
        return f'waiting for the picture of camera {" and ".join(late)}' if late else ''

    def look(self, state: RobotState) -> tuple[np.ndarray, ...]:
        """
        Return the pictures that go with a state, shapes (H, W, 3), uint8.

        :raises PictureError: says which camera has none, and why.
        """
        return tuple(self._picture(state, sight, slot) for sight, slot in self._slots)

    def details(self) -> dict[str, Any]:
        """Return what has come of each camera, and how old pictures were when they were used."""
        found: dict[str, Any] = {}
        for camera, slot in self._by_camera.items():
            found |= {f'{camera}/pictures': slot.taken,
                      f'{camera}/pictures_refused': slot.refused}
            for name, window in (('preparing', slot.preparing), ('age', slot.age)):
                found |= {f'{camera}/{name}_{key}': value
                          for key, value in window.summary().items() if key != 'count'}
        return found

    def _picture(self, state: RobotState, sight: Sight, slot: _Slot) -> np.ndarray:
        camera, picture = f'camera {sight.spec.camera}', slot.newest
        silence = f': {slot.silence}' if slot.silence else ''
        if slot.refusal:
            raise PictureError(f'{camera}: {slot.refusal}', REFUSED)
        if picture is None:
            raise PictureError(f'{camera} has sent no picture yet{silence}', MISSING)
        age_ns = state.stamp_ns - picture.stamp_ns
        if self._pictured_at is not None:
            if picture.stamp_ns != self._pictured_at(state, sight):
                raise PictureError(f'{camera}: the picture of another state came', MISSING)
        elif not abs(age_ns) <= sight.spec.max_age_s * NS:
            old = f'{age_ns / NS:.2f} s {"older" if age_ns > 0 else "newer"} than the state'
            since_s = (steady_ns() - slot.came_ns) / NS
            if since_s <= sight.spec.max_age_s:
                silence = (f', although it came {since_s:.2f} s ago: it was long on its way, or '
                           'is stamped by another clock than the states')
            raise PictureError(f'{camera}: its newest picture is {old.replace("-", "")}, allowed '
                               f'are {sight.spec.max_age_s:g} s{silence}', STALE)
        slot.age.add(age_ns / NS)
        return picture.pixels
