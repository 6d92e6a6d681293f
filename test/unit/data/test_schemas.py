# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Message definitions come complete, with the hash that ROS 2 uses, and without rclpy."""

import json
import subprocess
import sys

import pytest
from rl_nodes.core.errors import RecordingError
from rl_nodes.data.schemas import message_schema, prefixes
from sensor_msgs.msg import JointState


def test_the_definition_contains_all_types_inside_once():
    schema = message_schema('nav_msgs/msg/Odometry')
    parts = [line for line in schema.text.splitlines() if line.startswith('MSG: ')]
    assert sorted(parts) == sorted(f'MSG: {name}' for name in (
        'std_msgs/Header', 'builtin_interfaces/Time', 'geometry_msgs/PoseWithCovariance',
        'geometry_msgs/Pose', 'geometry_msgs/Point', 'geometry_msgs/Quaternion',
        'geometry_msgs/TwistWithCovariance', 'geometry_msgs/Twist', 'geometry_msgs/Vector3'))
    assert schema.text.count('=' * 80 + '\nMSG: ') == len(parts)
    assert 'string child_frame_id' in schema.text.partition('=' * 80)[0]
    assert 'uint32 nanosec' in schema.text


def test_the_hash_is_the_one_of_the_installed_package_and_of_the_message_class():
    schema = message_schema('sensor_msgs/msg/JointState')
    path = next(p / 'share/sensor_msgs/msg/JointState.json' for p in prefixes()
                if (p / 'share/sensor_msgs').is_dir())
    stated = {entry['type_name']: entry['hash_string']
              for entry in json.loads(path.read_text())['type_hashes']}
    assert schema.type_hash == stated['sensor_msgs/msg/JointState']
    assert schema.type_hash.startswith('RIHS01_') and len(schema.type_hash) == 71
    assert JointState.get_fields_and_field_types().keys() <= set(schema.text.split())


def test_arrays_bounds_comments_and_constants_are_no_types(tmp_path, monkeypatch):
    folder = tmp_path / 'share' / 'demo_msgs' / 'msg'
    folder.mkdir(parents=True)
    (folder / 'A.msg').write_text(
        '# Nothing/Here\nuint8 MODE=1\nB[<=3] few # other_msgs/C\nstring<=8 name "x"\n'
        'demo_msgs/B[2] two\nwstring[] w\n')
    (folder / 'B.msg').write_text('float64[9] m\nfloat32 x 1.5')
    (folder / 'A.json').write_text(json.dumps(
        {'type_hashes': [{'type_name': 'demo_msgs/msg/A', 'hash_string': 'RIHS01_ab'}]}))
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    schema = message_schema('demo_msgs/msg/A')
    assert schema.type_hash == 'RIHS01_ab'
    assert schema.text.endswith(f'{"=" * 80}\nMSG: demo_msgs/B\nfloat64[9] m\nfloat32 x 1.5\n')
    assert schema.text.count('MSG: ') == 1


@pytest.mark.parametrize('name, said', [
    ('sensor_msgs/JointState', 'expected <package>/msg/<Name>'),
    ('../etc/msg/Passwd', 'expected <package>/msg/<Name>'),
    ('no_such_msgs/msg/Thing', 'install the package no_such_msgs'),
    ('sensor_msgs/msg/NoSuch', 'no share/sensor_msgs/msg/NoSuch.msg'),
])
def test_what_is_missing_is_named(name, said):
    with pytest.raises(RecordingError, match=said):
        message_schema(name)


def test_a_missing_type_inside_names_its_user_and_a_broad_file_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / 'share' / 'demo_msgs' / 'msg'
    folder.mkdir(parents=True)
    (folder / 'A.msg').write_text('lost_msgs/B b\n')
    (folder / 'C.msg').write_text('bool b\n')
    (folder / 'C.json').write_text('{"type_hashes": []}')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    with pytest.raises(RecordingError, match=r'B\.msg \(used by demo_msgs/msg/A\)'):
        message_schema('demo_msgs/msg/A')
    with pytest.raises(RecordingError, match='does not give the type hash'):
        message_schema('demo_msgs/msg/C')


def test_nothing_of_ros_is_imported():
    code = ('import sys; from rl_nodes.data.schemas import message_schema; '
            'message_schema("sensor_msgs/msg/Imu"); '
            'import rl_nodes.data.writer, rl_nodes.data.recovery, rl_nodes.data.assembler; '
            'sys.exit(any(m in sys.modules for m in ("rclpy", "sensor_msgs", "torch")))')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
