# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Is this machine ready? What ``rl_nodes doctor`` prints."""

from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
import os
from pathlib import Path
import platform
import re
import subprocess
import sys
from typing import Literal, NamedTuple

from rl_nodes import __version__
from rl_nodes.core import ros_environment
from rl_nodes.core.errors import ConfigError, GraphError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.scheduling import why_refused
from rl_nodes.realtime import load, onnxruntime_library

SOCKET_BYTES = 4 << 20  # what nodes ask for, see core/ros_environment.py
IMPORT_TIMEOUT_S = 60.0
GREATEST_PRIORITY = 99  # of SCHED_FIFO
_SOCKET_LIMIT = Path('/proc/sys/net/core/rmem_max')

Level = Literal['ok', 'note', 'FAIL']


class Finding(NamedTuple):
    """One line of the report; FAIL makes the exit status 1."""

    level: Level
    subject: str
    text: str


class Requirement(NamedTuple):
    """
    A package and why it is there.

    :param module: what is imported.
    :param distribution: what pip calls it; empty for a ROS package.
    :param needed_for: graphs that cannot run without it.
    :param minimum: least acceptable version; older ones have a known fault or were never tried.
    :param why: what for, or which fault.
    """

    module: str
    distribution: str
    needed_for: tuple[str, ...]
    minimum: str
    why: str


_ALWAYS = ('train', 'deploy')
REQUIREMENTS = (
    Requirement('numpy', 'numpy', _ALWAYS, '1.26', 'vectors'),
    Requirement('yaml', 'PyYAML', _ALWAYS, '6.0', 'configuration'),
    Requirement('msgspec', 'msgspec', _ALWAYS, '0.18', 'configuration'),
    Requirement('mcap', 'mcap', _ALWAYS, '1.2', 'recording'),
    Requirement('rclpy', 'ros-rclpy', _ALWAYS, '7.1', 'nodes'),
    Requirement('sensor_msgs.msg', 'ros-sensor-msgs', _ALWAYS, '5.3', 'messages'),
    Requirement('geometry_msgs.msg', 'ros-geometry-msgs', _ALWAYS, '5.3', 'messages'),
    Requirement('nav_msgs.msg', 'ros-nav-msgs', _ALWAYS, '5.3', 'messages'),
    Requirement('diagnostic_msgs.msg', 'ros-diagnostic-msgs', _ALWAYS, '5.3', 'messages'),
    Requirement('onnxruntime', 'onnxruntime', _ALWAYS, '1.31',
                'policies; older ones than tested here may follow addresses in model files'),
    Requirement('onnx', 'onnx', _ALWAYS, '1.21',
                'policies; before 1.21 a model file could reach outside its folder'),
    Requirement('pybullet', 'pybullet', (), '3.2', 'simulation'),
    Requirement('mujoco', 'mujoco', (), '3.3', 'simulation by backend:=mujoco'),
    Requirement('torch', 'torch', ('train',), '2.10',
                'learning; before 2.10 a checkpoint could corrupt memory'),
    Requirement('gymnasium', 'gymnasium', ('train',), '1.0', 'environments'),
)


def examine(purpose: str) -> int:
    """
    Print what this machine has and lacks.

    :param purpose: ``train`` or ``deploy``; decides what is needed.
    :return: exit status, 1 where something needed is missing.
    """
    findings = [
        Finding('ok', 'rl_nodes', __version__),
        Finding('ok', 'python', f'{platform.python_version()} at {sys.executable}'),
        Finding('ok', 'machine', f'{platform.system()} {platform.release()} '
                                 f'{platform.machine()}, {os.cpu_count()} cores'),
        *_environment(), *_data(), _control_path(), _priority()]
    with ThreadPoolExecutor(4) as pool:
        findings += pool.map(lambda wanted: _package(wanted, purpose), REQUIREMENTS)
    width = max(len(finding.subject) for finding in findings)
    for level, subject, text in findings:
        print(f'{level:>4}  {subject:<{width}}  {text}')
    failed = [finding.subject for finding in findings if finding.level == 'FAIL']
    print(f'\nnot ready to {purpose}: {", ".join(failed)}' if failed else f'\nready to {purpose}')
    return 1 if failed else 0


def _environment() -> list[Finding]:
    findings = []
    try:
        domain = ros_environment.domain_id(os.environ)
        comfortable = domain <= ros_environment.MAX_COMFORTABLE_DOMAIN_ID
        findings.append(Finding('ok' if comfortable else 'note', 'ROS_DOMAIN_ID', str(domain) + (
            '' if comfortable else '; above 101 its ports may be taken by other programs')))
    except GraphError as error:
        findings.append(Finding('FAIL', 'ROS_DOMAIN_ID', str(error)))
    for subject, check in (('security', ros_environment.check_security),
                           ('middleware', ros_environment.check_middleware)):
        try:
            check(os.environ)
        except GraphError as error:
            findings.append(Finding('FAIL', subject, str(error)))
    on = os.environ.get('ROS_SECURITY_ENABLE') == 'true'
    findings.append(Finding('ok' if on else 'note', 'security', 'DDS-Security on' if on else (
        'DDS-Security off: everybody on the network can command the robot')))
    reach = os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '')
    findings.append(Finding('ok' if reach else 'note', 'discovery range', reach or (
        'SUBNET (default); export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST for one machine')))
    chosen = os.environ.get(ros_environment.TRANSPORTS) or os.environ.get(ros_environment.PROFILES)
    findings.append(Finding('note' if chosen else 'ok', 'transports', (
        f'as {chosen} says; with shared memory a process that is killed can stop the others'
        if chosen else 'UDP, no shared memory')))
    findings += _sockets()
    findings.append(Finding('ok', 'middleware', os.environ.get('RMW_IMPLEMENTATION', 'default') + (
        ' of ' + (', '.join(ros_environment.middlewares(os.environ)) or 'none found'))))
    return findings


def _sockets() -> list[Finding]:
    try:
        size = int(_SOCKET_LIMIT.read_text())
    except (OSError, ValueError):
        return []  # not Linux
    return [Finding('ok' if size >= SOCKET_BYTES else 'note', 'net.core.rmem_max', f'{size}' + (
        '' if size >= SOCKET_BYTES else '; in bursts messages are lost and sent again, too late '
        f'for a recorder at high rates: sudo sysctl -w net.core.rmem_max={SOCKET_BYTES}'))]


def _control_path() -> Finding:
    try:
        load()
        return Finding('ok', 'control path', f'C++, with {onnxruntime_library()}')
    except ConfigError as error:
        return Finding('note', 'control path', f'Python: {error}')


def _priority() -> Finding:
    why = why_refused(GREATEST_PRIORITY)
    if not why:
        return Finding('ok', 'priority', 'SCHED_FIFO may be had by priority:=80')
    return Finding('note', 'priority', f'SCHED_FIFO refused ({why}), priority:=... has no effect; '
                   f'"@realtime - rtprio {GREATEST_PRIORITY}" in /etc/security/limits.d gives it '
                   'to the members of that group, docker run --cap-add SYS_NICE to a container')


def _data() -> list[Finding]:
    try:
        return [Finding('ok', 'configuration', str(share_directory()))]
    except ConfigError as error:
        return [Finding('FAIL', 'configuration', str(error))]


def _package(wanted: Requirement, purpose: str) -> Finding:
    """Import a package in a process of its own: one that crashes is a finding, not our end."""
    needed: Level = 'FAIL' if purpose in wanted.needed_for else 'note'
    version = _version(wanted.distribution)
    try:
        result = subprocess.run(  # noqa: S603 - our own interpreter and a constant text
            [sys.executable, '-c', f'import {wanted.module}'], capture_output=True, text=True,
            timeout=IMPORT_TIMEOUT_S, check=False)
        problem = (result.stderr.strip().splitlines() or [f'status {result.returncode}'])[-1]
        failed = result.returncode != 0
    except subprocess.TimeoutExpired:
        problem, failed = f'import takes more than {IMPORT_TIMEOUT_S:g} s', True
    if failed:
        return Finding(needed, wanted.module, f'{problem} (for {wanted.why})')
    if version and numbers(version) < numbers(wanted.minimum):
        return Finding(needed, wanted.module,
                       f'{version}, at least {wanted.minimum} is needed for {wanted.why}')
    return Finding('ok', wanted.module, version or 'found')


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ''  # a ROS installation has no pip metadata under this name


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, as (2, 13, 0) of ``2.13.0+cpu``."""
    return tuple(int(part) for part in re.findall(r'\d+', version.split('+')[0])[:3])
