# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Processes that learn together, started as torchrun does, without its own process."""

import os
from pathlib import Path
import socket
import subprocess
import sys

ROOT = Path(__file__).parents[1]


def meeting(count):
    """Return the environment variables by which so many processes meet, one dict for each."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    return [{'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'WORLD_SIZE': str(count),
             'RANK': str(rank)} for rank in range(count)]


def start(arguments, variables):
    """Start Python with arguments as one of them."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env=os.environ | variables | {
            'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{ROOT}:{ROOT / "test"}'})


def ended(process):
    """Return (exit status, standard error) of a process at its end."""
    said = process.communicate(timeout=100)[1]
    return process.returncode, said
