# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
One control cycle on a servo bus against what the wire allows: ``python -m benchmarks.servo_bus``.

Six emulated servos on a pseudo-terminal in another process; every byte takes its time at 1 Mbit/s.
The least possible cycle is the bytes of one synchronous read (all readings of each motor) and
one synchronous write, back to back. A USB adapter adds its own latency, about 1 ms a cycle.
"""

import argparse
from pathlib import Path
import select
import subprocess
import sys
import tempfile
import time

import numpy as np
from rl_nodes.backends.hardware.servo_bus import MotorConfig, ServoBusConfig, ServoBusRobot
from rl_nodes.backends.hardware.servo_bus.bus import BITS_PER_BYTE, cycle_bytes
from rl_nodes.backends.hardware.servo_bus.codecs import CODECS
from rl_nodes.backends.hardware.servo_bus.models import FAMILIES
from rl_nodes.core.errors import BackendError
from rl_nodes.core.robot import load_robot

from benchmarks.report import LATENCY_HEAD, latency_row, Metric, percentile, publish, table

EMULATOR = Path(__file__).resolve().parents[1] / 'test' / 'emulators' / 'servo_bus.py'
MODELS = {'dynamixel2': 'xm430-w350', 'feetech': 'sts3215'}
BAUD = 1_000_000


def measure(protocol: str, cycles: int) -> tuple[list[float], list[float], int]:
    """
    Return (durations of cycles, of the processor time in them [ns], readings missed).

    A cycle is read() then write(); the next reading also waits for the written bytes to pass.
    """
    model = load_robot('arm')
    cycle_ns, cpu_ns, missed = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / 'port'
        command = [sys.executable, str(EMULATOR), '--protocol', protocol, '--baud', str(BAUD),
                   '--link', str(link)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as emulator:
            if not select.select([emulator.stdout], [], [], 10.0)[0]:
                emulator.kill()
                raise SystemExit('the emulator did not start within 10 s')
            robot = ServoBusRobot(model, ServoBusConfig(
                port=str(link), protocol=protocol, baud_rate=BAUD, scan_timeout_s=0.1,
                read_timeout_s=0.01, motors={
                    name: MotorConfig(id=i, model=MODELS[protocol], offset_ticks=2048,
                                      voltage_v=(9.0, 13.0))
                    for i, name in enumerate(model.joint_names, start=1)}))
            try:
                robot.connect()
                for _ in range(cycles):
                    begin, used = time.monotonic_ns(), time.thread_time_ns()
                    try:
                        measured = robot.read()
                    except BackendError:
                        missed += 1
                        continue
                    robot.write(measured.position)
                    cycle_ns.append(time.monotonic_ns() - begin)
                    cpu_ns.append(time.thread_time_ns() - used)
            finally:
                robot.close()
                emulator.stdin.close()
                emulator.wait(timeout=5)
    return cycle_ns, cpu_ns, missed


def main() -> None:
    """Measure both protocols and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='a few seconds')
    cycles = 800 if parser.parse_args().quick else 6000
    rows, metrics = [], {}
    for protocol in MODELS:
        family = FAMILIES[protocol]
        count = cycle_bytes(CODECS[protocol], 6, family.blocks[0][1], family.goal.size)
        least_ns = count * BITS_PER_BYTE / BAUD * 1e9
        cycle_ns, cpu_ns, missed = measure(protocol, cycles)
        rows += [latency_row(f'{protocol} cycle', cycle_ns),
                 latency_row(f'{protocol} processor', cpu_ns)]
        peer = f'{count} bytes at 1 Mbit/s = {least_ns / 1e6:.2f} ms'
        p50, p99 = percentile(cycle_ns, 50), percentile(cycle_ns, 99)
        metrics[f'{protocol}_p50_vs_wire'] = Metric(p50 / least_ns, '<= 1.25', peer)
        metrics[f'{protocol}_p99_vs_wire'] = Metric(p99 / least_ns, '<= 2', peer)
        metrics[f'{protocol}_cpu_us'] = Metric(
            float(np.median(cpu_ns)) / 1e3, '<= 1000', 'processor time of one cycle')
        metrics[f'{protocol}_missed'] = Metric(float(missed), '= 0', f'of {cycles} readings')
    print(table(LATENCY_HEAD, rows))
    print()
    publish(metrics)


if __name__ == '__main__':
    main()
