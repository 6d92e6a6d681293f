# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Keyboard: the keys of a terminal, published like a gamepad.

Parameters: robot, task, stepping, autostart, terminal (see below).
Publishes: joy (sensor_msgs/Joy, 50 Hz, SENSOR); /diagnostics (diagnostic_msgs/DiagnosticArray,
1 Hz). Keys and what they do: ``rl_nodes/teleop/keys.py``.
"""

import os
import termios
import tty
from typing import Any

from rl_nodes.core.errors import ConfigError
from rl_nodes.core.timing import steady_ns
from rl_nodes.nodes import qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import ManagedNode
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.teleop.keys import HELP, Keys
from sensor_msgs.msg import Joy

PERIOD_S = 0.02


class KeyboardParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the keyboard.

    :param terminal: device of the terminal whose keys are read
    """

    terminal: str = '/dev/tty'


class Keyboard(ManagedNode[KeyboardParameters]):
    """See the module's text."""

    parameters_type = KeyboardParameters

    def configure(self) -> None:
        """Take the terminal, key by key, until cleanup."""
        path = self.parameters.terminal
        try:
            self._terminal = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            self._before: list[Any] | None = termios.tcgetattr(self._terminal)
            tty.setcbreak(self._terminal)
        except (OSError, termios.error) as error:
            raise ConfigError(f'terminal {path}: {error}; the keyboard is read from a terminal') \
                from None
        self._keys = Keys()
        self._joy = self.publish_on(Joy, 'joy', qos.SENSOR)
        self.every(PERIOD_S, self._tick)

    def activate(self) -> None:
        """Show the keys."""
        self.get_logger().info(HELP)

    def release(self) -> None:
        """Give the terminal back as it was."""
        terminal, self._terminal = getattr(self, '_terminal', -1), -1
        before, self._before = getattr(self, '_before', None), None
        if terminal >= 0:
            if before is not None:
                termios.tcsetattr(terminal, termios.TCSANOW, before)
            os.close(terminal)

    def _tick(self) -> None:
        """Publish what is held; a terminal that is gone ends the node, and with it the control."""
        now = steady_ns()
        try:
            self._keys.press(os.read(self._terminal, 256).decode(errors='ignore'), now)
        except BlockingIOError:
            pass
        except OSError as error:
            self.fault(f'terminal {self.parameters.terminal}: {error}')
            return
        axes, buttons = self._keys.read(now)
        msg = Joy(axes=axes, buttons=buttons)
        msg.header.stamp = self.get_clock().now().to_msg()
        self._joy.publish(msg)


def main() -> None:
    """Run the node."""
    run_main(Keyboard, 'keyboard')


if __name__ == '__main__':
    main()
