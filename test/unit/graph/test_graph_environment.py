# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What the environment variables of ROS mean for a graph, and which are refused."""

from pathlib import Path

import pytest
from rl_nodes.core import ros_environment
from rl_nodes.core.errors import GraphError
from rl_nodes.graph import build


@pytest.mark.parametrize(('text', 'domain'), [('', 0), ('0', 0), ('7', 7), ('232', 232)])
def test_domain(text, domain):
    assert ros_environment.domain_id({'ROS_DOMAIN_ID': text}) == domain
    assert build('train', {}, {'ROS_DOMAIN_ID': text}).domain_id == domain


@pytest.mark.parametrize('text', ['abc', '233', '-1', '010', ' 7', '7 ', '1.0', '0x10', '９'])
def test_domain_that_ros_would_misread(text):
    with pytest.raises(GraphError, match='ROS_DOMAIN_ID'):
        build('train', {}, {'ROS_DOMAIN_ID': text})


@pytest.mark.parametrize(('enable', 'strategy'), [
    ('1', 'Enforce'), ('True', 'Enforce'), ('TRUE', 'Enforce'), ('yes', ''), ('true', 'enforce'),
    ('true', 'ENFORCE'), ('true', ''), ('false', 'enforce')])
def test_security_that_would_be_off_in_silence(enable, strategy):
    environ = {'ROS_SECURITY_ENABLE': enable, 'ROS_SECURITY_STRATEGY': strategy}
    with pytest.raises(GraphError, match='[Ww]rite (exactly )?ROS_SECURITY_'):
        build('train', {}, environ)


@pytest.mark.parametrize(('enable', 'strategy'), [
    ('', ''), ('false', ''), ('true', 'Enforce'), ('true', 'Permissive'), ('false', 'Enforce')])
def test_security_as_ros_reads_it(enable, strategy):
    ros_environment.check_security(
        {'ROS_SECURITY_ENABLE': enable, 'ROS_SECURITY_STRATEGY': strategy})


def test_middleware_that_is_not_installed(tmp_path):
    for name in ('librmw_fastrtps_cpp.so', 'librmw_fastrtps_shared_cpp.so', 'librmw.so',
                 'librmw_dds_common__rosidl_typesupport_cpp.so'):
        (tmp_path / name).write_bytes(b'')
    environ = {'LD_LIBRARY_PATH': f'/nowhere:{tmp_path}'}
    assert ros_environment.middlewares(environ) == ['rmw_fastrtps_cpp']
    ros_environment.check_middleware({**environ, 'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'})
    with pytest.raises(GraphError, match="did you mean 'rmw_fastrtps_cpp'"):
        ros_environment.check_middleware({**environ, 'RMW_IMPLEMENTATION': 'rmw_fastrtps'})
    ros_environment.check_middleware({'RMW_IMPLEMENTATION': 'rmw_unknown_cpp'})


UDP = 'UDPv4?sockets_size=4MB'
LOCAL = {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


@pytest.mark.parametrize(('environ', 'transports', 'reach', 'profile'), [
    ({}, UDP, None, None),
    ({'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'}, UDP, 'SUBNET', None),
    (LOCAL, UDP, 'SYSTEM_DEFAULT', 'fastdds_localhost.xml'),
    ({'ROS_LOCALHOST_ONLY': '1'}, UDP, 'SYSTEM_DEFAULT', 'fastdds_localhost.xml'),
    (LOCAL | {'ROS_STATIC_PEERS': '10.0.0.2'}, UDP, 'LOCALHOST', None),
    (LOCAL | {'FASTDDS_BUILTIN_TRANSPORTS': 'SHM'}, 'SHM', 'LOCALHOST', None),
    (LOCAL | {'FASTRTPS_DEFAULT_PROFILES_FILE': 'mine.xml'}, None, 'LOCALHOST', 'mine.xml'),
    (LOCAL | {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, None, 'LOCALHOST', None)])
def test_no_memory_is_shared_with_a_process_that_may_be_killed_unless_the_user_says_so(
        environ, transports, reach, profile):
    environ = {'ROS_DOMAIN_ID': '7', **environ}
    for _ in range(2):  # a child of a process that is prepared is prepared
        assert ros_environment.prepare(environ) == 7
        assert environ.get('FASTDDS_BUILTIN_TRANSPORTS') == transports
        assert environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE') == reach
        found = environ.get('FASTRTPS_DEFAULT_PROFILES_FILE')
        assert (found and Path(found).name) == profile
        assert 'ROS_LOCALHOST_ONLY' not in environ
