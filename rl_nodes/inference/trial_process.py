# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The process that a policy is tried out in, see ``trial.py``.

Limits come before the first look at the policy. Exit status 0: all is well; REFUSED: the output
says why; anything else: whatever the policy did to it.
"""

import math
import os
import resource
import signal
import sys

from rl_nodes.core.errors import RlNodesError
from rl_nodes.core.scheduling import run_as_usual
from rl_nodes.inference.batching import BatchRuntime
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.trial import LENGTH_BYTES, PATIENCE, REFUSED


def confine(limit_s: float, memory_bytes: int) -> None:
    """
    Limit this process: memory beside what it has, time, no files; and let others go first.

    :param limit_s: processor time [s].
    """
    seconds = math.ceil(limit_s)
    signal.alarm(seconds * PATIENCE)
    with open('/proc/self/statm', encoding='ascii') as file:
        present = int(file.read().split()[0]) * resource.getpagesize()
    # Of processor time the hard limit kills, the soft one says why.
    for kind, most, spare in ((resource.RLIMIT_AS, present + memory_bytes, 0),
                              (resource.RLIMIT_CPU, seconds, 1), (resource.RLIMIT_CORE, 0, 0),
                              (resource.RLIMIT_FSIZE, 0, 0)):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            most, spare = min(most, hard), 0
        resource.setrlimit(kind, (most, most + spare))
    run_as_usual()
    os.nice(5)


def main() -> int:
    """Try the policy on standard input out; arguments: seconds, bytes of memory, robots."""
    confine(float(sys.argv[1]), int(sys.argv[2]))
    data = sys.stdin.buffer.read()
    start = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES])
    try:
        bundle, rows = PolicyBundle.from_parts(data[start:], data[LENGTH_BYTES:start]), sys.argv[3]
        BatchRuntime(bundle, int(rows)) if rows != '1' else PolicyRuntime(bundle)
    except (RlNodesError, MemoryError) as error:
        sys.stdout.write(str(error) or 'needs more memory than a policy may')
        return REFUSED
    return 0


if __name__ == '__main__':
    sys.exit(main())
