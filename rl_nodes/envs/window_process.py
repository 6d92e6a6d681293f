# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The process of a window: shows the states that come, until no more come. See ``window.py``."""

import socket
import sys

from rl_nodes.backends import make_view
from rl_nodes.core.errors import RlNodesError
from rl_nodes.envs.window import packed_bytes, SHOWN, unpack
from rl_nodes.tasks import load_task


def main() -> int:
    """Open the window for (robot, task, file descriptor of the socket) and show what comes."""
    robot, task_name, descriptor = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as states:
        try:
            task = load_task(robot, task_name)
            view = make_view(task.robot, task.objects, window=True)
        except RlNodesError as error:
            sys.stderr.write(f'{error}\n')
            return 1
        size = packed_bytes(task)
        try:
            states.sendall(SHOWN)
            while len(data := states.recv(size, socket.MSG_WAITALL)) == size:
                view.show(*unpack(task, data))
                states.sendall(SHOWN)
        except ConnectionError:
            pass  # whoever is watched has gone
        view.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
