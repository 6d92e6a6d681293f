# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A network that loses and swaps what some processes send, below the middleware."""

from pathlib import Path
import shutil
import subprocess

SOURCE = Path(__file__).with_suffix('.c')
COMPILER = shutil.which('cc')


class LossyNetwork:
    """
    Made for processes that are started with its environment; needs ``COMPILER``.

    :param folder: for its files.
    :ivar environ: of the processes.
    """

    def __init__(self, folder: Path) -> None:
        library, self._shares = folder / 'lossy_network.so', folder / 'lossy_network'
        subprocess.run([COMPILER, '-O2', '-shared', '-fPIC', '-Wall', '-Wextra', '-Werror', '-o',
                        library, SOURCE, '-ldl', '-lpthread'], check=True)
        self.set(0, 0)
        self.environ = {'LD_PRELOAD': str(library), 'LOSSY_NETWORK': str(self._shares)}

    def set(self, loss: int, swapped: int) -> None:
        """Set how many of a hundred datagrams are lost, and how many come after the next one."""
        with self._shares.open('r+b' if self._shares.exists() else 'wb') as file:
            file.write(bytes((loss, swapped)))
