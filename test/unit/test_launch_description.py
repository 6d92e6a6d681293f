# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The graph as launch actions; all but the first tests need a ROS installation."""

from pathlib import Path
import subprocess
import sys

import pytest
from rl_nodes.core.errors import GraphError
from rl_nodes.graph_arguments import GRAPHS
from rl_nodes.launch_description import make, refuse_unknown

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ['/opt/ros/bin/ros2', 'launch', 'rl_nodes', 'train.launch.py']

# What "ros2 launch <file> <arguments>" does.
ROS2_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *words = sys.argv[1:]
service = LaunchService(argv=words)
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(path),
    launch_arguments=[tuple(word.split(':=', 1)) for word in words])]))
sys.exit(service.run())
"""


def test_misspelt_argument_of_our_launch_file_is_refused():
    with pytest.raises(GraphError, match="did you mean 'task'"):
        refuse_unknown('train', ['task', 'robot'], ['tsak:=reach'], [*COMMAND, 'tsak:=reach'])


@pytest.mark.parametrize('words', [[], ['task:=reach'], ['launch-prefix:=gdb']])
def test_known_arguments_pass(words):
    refuse_unknown('train', ['task', 'robot'], words, [*COMMAND, *words])


def test_arguments_of_an_including_launch_file_are_no_concern_of_ours():
    refuse_unknown('train', ['task'], ['lab:=two'], ['ros2', 'launch', 'mine', 'all.launch.py'])


@pytest.mark.parametrize('name', GRAPHS)
def test_every_argument_is_declared(name):
    pytest.importorskip('launch_ros', reason='comes with a ROS installation')
    declared = {argument.name: argument for argument in make(name).get_launch_arguments()}
    assert list(declared) == [argument.name for argument in GRAPHS[name]]
    for argument in GRAPHS[name]:
        assert declared[argument.name].description.startswith(argument.description)
        assert (declared[argument.name].default_value is None) == (argument.default is None)
        assert tuple(declared[argument.name].choices or ()) == argument.choices


@pytest.mark.parametrize(('name', 'word', 'message'), [
    ('train', 'tsak:=reach', "did you mean 'task'"),
    ('train', 'task:=raech', "did you mean 'reach'"),
    ('train', 'stepping:=fast', 'not valid'),
    ('train', 'seed:=many', 'whole number'),
    ('deploy', 'policy:=none.onnx', 'no such file')])
def test_launch_refuses(name, word, message, tmp_path):
    pytest.importorskip('launch_ros', reason='comes with a ROS installation')
    path = ROOT / 'launch' / f'{name}.launch.py'
    result = subprocess.run([sys.executable, '-c', ROS2_LAUNCH, str(path), word], cwd=tmp_path,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert message in result.stdout + result.stderr
    assert 'process started' not in result.stdout + result.stderr
