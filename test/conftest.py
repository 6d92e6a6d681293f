# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Every test has a ROS domain of its own; those that learn may ask for one thread.

A participant that was killed stays visible to others for about 20 s, and two test runs may share
a machine. So each test leases a domain by a lock on a file, as nodes do, and starts to look where
the test before it ended.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
import fcntl
import itertools
import os
from pathlib import Path
import tempfile

import pytest
from rl_nodes.core import ros_environment

DOMAINS = range(1, 102)  # ports of domains above 101 may be taken by other programs on Linux
_counter = itertools.count(os.getpid())


@contextmanager
def leased_domain() -> Iterator[int]:
    """Hold a ROS domain that no other test on this machine uses, also from module fixtures."""
    folder = Path(tempfile.gettempdir()) / f'rl_nodes-test-domains-{os.getuid()}'
    folder.mkdir(mode=0o700, exist_ok=True)
    for _ in DOMAINS:
        domain = DOMAINS[next(_counter) % len(DOMAINS)]
        file = os.open(folder / str(domain), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        try:
            yield domain
        finally:
            os.close(file)
        return
    pytest.fail(f'all ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are leased')


@pytest.fixture(scope='session')
def lease_domain() -> Callable[[], AbstractContextManager[int]]:
    """Return what leases a domain, for fixtures that outlive a test."""
    return leased_domain


def pytest_configure() -> None:
    """Keep even the fixtures of a whole module away from domain 0 and from the network."""
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('ROS_DOMAIN_ID', str(DOMAINS[-1]))
    ros_environment.prepare(os.environ)


@pytest.fixture(autouse=True)
def ros_domain_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """Set ``ROS_DOMAIN_ID`` for one test and for the processes that it starts; return it."""
    for name in ('ROS_SECURITY_ENABLE', 'ROS_SECURITY_STRATEGY', 'ROS_LOCALHOST_ONLY'):
        monkeypatch.delenv(name, raising=False)
    with leased_domain() as domain:
        monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
        monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
        yield domain


@pytest.fixture
def one_thread():
    """Let torch compute on one thread: in small networks more of them only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
