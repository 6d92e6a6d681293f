# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The policy server with a thread that keeps the interpreter to itself, as a long call into C does.

``GREEDY_POLICY``: a file that says for how long [s]; it is removed when that begins.
"""

import os
from pathlib import Path
import threading
import time

from rl_nodes.nodes.policy_server import main

SWITCH = Path(os.environ['GREEDY_POLICY'])
SAMPLE = 10**6


def greedy() -> None:
    begun = time.perf_counter()
    sum(range(SAMPLE))  # C code from end to end: nobody else has a turn
    rate = SAMPLE / (time.perf_counter() - begun)
    while True:
        time.sleep(0.01)
        if SWITCH.exists() and (text := SWITCH.read_text()):
            SWITCH.unlink()
            sum(range(round(rate * float(text))))


threading.Thread(target=greedy, daemon=True).start()
main()
