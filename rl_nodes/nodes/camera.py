# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Camera: what the cameras of a simulated robot see.

It draws a world of its own from the states that the robot publishes, so the robot never waits for
a picture. A picture shows one state and has its stamp. In real time a camera looks at its own rate
on the clock of the stamps; in lockstep, where a simulated second may pass in no time, at the same
rate on the steady clock. A camera that the task observes looks in lockstep at the states whose
pictures the policy server waits for, whenever they come.

Parameters: robot, task, stepping, autostart.
Subscribes (all ONLOOKER):
  joint_states (sensor_msgs/JointState) and the other topics that a state is spread over, where
  the robot and its task have them.
Publishes, for each camera of the robot (PICTURE):
  camera/<name>/image_raw (sensor_msgs/Image, rgb8);
  camera/<name>/depth/image_raw (sensor_msgs/Image, 32FC1 [m], infinite where nothing is seen),
  where it measures distances;
  camera/<name>/camera_info (sensor_msgs/CameraInfo), after the pictures with its stamp;
  camera/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
"""

from functools import partial
import os
from typing import Any

import numpy as np
from rl_nodes.backends import make_view
from rl_nodes.core.cameras import CameraMount, CameraSensorConfig, Shutter
from rl_nodes.core.errors import ConfigError, SpecError
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns
from rl_nodes.core.types import RobotState
from rl_nodes.nodes import pictures, qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import ManagedNode, OK, TaskNode, WARN
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.nodes.picture_topics import KINDS
from rl_nodes.nodes.state_topics import StateReader

SILENT_S = 1.0      # without a state, after which the status says so
NICE = 10           # pictures may be late, commands may not


class _Lens:
    """One camera: where it is, when it looks, where its pictures go."""

    def __init__(self, node: ManagedNode, camera: CameraSensorConfig, mount: CameraMount,
                 shutter: Shutter) -> None:
        self.camera, self.mount, self.shutter = camera, mount, shutter
        self.taken, self.drawing = 0, LatencyWindow()
        self._publishers = {
            topic.removeprefix(f'camera/{camera.name}/'): node.publish_on(
                KINDS[kind], topic, qos.PICTURE)
            for topic, kind in camera.topics().items()}

    def publish(self, stamp_ns: int, picture: np.ndarray, distances: np.ndarray) -> None:
        """Publish one look; the description last, so who has it has all."""
        self._publishers['image_raw'].publish(
            pictures.picture_to_msg(self.camera, stamp_ns, picture))
        if self.camera.depth:
            self._publishers['depth/image_raw'].publish(
                pictures.picture_to_msg(self.camera, stamp_ns, distances))
        self._publishers['camera_info'].publish(pictures.camera_info(self.camera, stamp_ns))
        self.taken += 1


class Camera(TaskNode[NodeParameters]):
    """See the module's text."""

    status_topic = 'camera/status'

    def configure(self) -> None:
        """Build the world that is looked at, then the entities."""
        super().configure()
        model = self.task.robot
        if not model.config.cameras:
            raise ConfigError(f'robot {model.name} has no cameras; list them under cameras in its '
                              'YAML file, see docs/cameras.md')
        self._refused, self._state_at_ns = 0, steady_ns()
        self._view = make_view(model, self.task.objects)
        tolerance_ns = 0 if self.lockstep else self.task.period_ns // 2
        self._sights = {sight.spec.camera: sight for sight in self.task.sights} \
            if self.lockstep else {}
        self._lenses = [
            _Lens(self, camera, CameraMount(camera, model.urdf, model.joint_names),
                  Shutter(camera.rate_hz, tolerance_ns)) for camera in model.config.cameras]
        self._reader = StateReader(self.task)
        for topic, kind in self._reader.topics.items():
            self.subscribe(kind, topic, partial(self._on_part, topic), qos.ONLOOKER)

    def release(self) -> None:
        """Let go of the world."""
        view, self._view = getattr(self, '_view', None), None
        if view is not None:
            view.close()

    def _on_part(self, topic: str, msg: Any) -> None:
        try:
            state = self._reader.read(topic, msg)
        except SpecError as error:
            self._refused += 1
            self.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)
            return
        if state is not None:
            self._state_at_ns = steady_ns()
            self.tick(state)

    def tick(self, state: RobotState) -> None:
        """Take the pictures that are due."""
        due = [lens for lens in self._lenses if self._due(lens, state)]
        if not due or self._view is None:
            return
        self._view.show(state, np.zeros(3))
        for lens in due:
            begun_ns = steady_ns()
            picture, distances = self._view.look(lens.camera, *lens.mount.pose(state))
            lens.drawing.add((steady_ns() - begun_ns) / NS)
            lens.publish(state.stamp_ns, picture, distances)

    def _due(self, lens: _Lens, state: RobotState) -> bool:
        sight = self._sights.get(lens.camera.name)
        if sight is not None:
            return self.task.pictured_at(state, sight) == state.stamp_ns
        return lens.shutter.due(steady_ns() if self.lockstep else state.stamp_ns)

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return pictures taken and missed, and how long drawing takes, of each camera."""
        values: dict[str, Any] = {'refused': self._refused}
        for lens in self._lenses:
            values |= {f'{lens.camera.name}/pictures': lens.taken,
                       f'{lens.camera.name}/missed': lens.shutter.missed}
            values |= {f'{lens.camera.name}/drawing_{key}': value
                       for key, value in lens.drawing.summary().items() if key != 'count'}
        silent_s = (steady_ns() - self._state_at_ns) / NS
        if self.active and silent_s > SILENT_S:
            return WARN, f'no state of the robot for {silent_s:.1f} s', values
        return OK, 'running', values


def main() -> None:
    """Run the node, behind those that control the robot."""
    os.nice(NICE)
    run_main(Camera, 'camera')


if __name__ == '__main__':
    main()
