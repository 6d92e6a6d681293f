# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The manifests of pip and colcon agree with each other and with the code."""

import ast
import importlib.util
from pathlib import Path
import re
from xml.etree import ElementTree

import pytest
import rl_nodes
from rl_nodes.graph_arguments import GRAPHS

ROOT = Path(__file__).resolve().parents[2]
NODES = ('robot_bridge', 'policy_server', 'safety_monitor', 'reward_computer',
         'experience_recorder', 'trainer', 'evaluator', 'camera')


@pytest.fixture(scope='module')
def manifest():
    return ElementTree.parse(ROOT / 'package.xml').getroot()


@pytest.fixture(scope='module')
def setup_arguments():
    """Return what setup.py hands to setuptools, by running it with a stand-in."""
    import os

    import setuptools

    found = {}
    original, folder = setuptools.setup, os.getcwd()
    setuptools.setup = lambda **arguments: found.update(arguments)
    try:
        os.chdir(ROOT)
        exec(compile((ROOT / 'setup.py').read_text(), 'setup.py', 'exec'), {})
    finally:
        setuptools.setup = original
        os.chdir(folder)
    return found


def test_manifest_is_a_valid_ament_python_package(manifest):
    assert manifest.get('format') == '3'
    assert manifest.findtext('name') == 'rl_nodes'
    assert manifest.findtext('export/build_type') == 'ament_python'
    # With an invalid address colcon takes the package for plain Python and leaves out its hooks.
    for maintainer in manifest.findall('maintainer'):
        assert re.fullmatch(r'[\w.+-]+@[\w-]+(\.[\w-]+)+', maintainer.get('email'))


def test_catkin_accepts_the_manifest():
    catkin = pytest.importorskip('catkin_pkg.package')
    package = catkin.parse_package(str(ROOT / 'package.xml'))
    assert package.get_build_type() == 'ament_python'


def test_one_version_everywhere(manifest, setup_arguments):
    assert manifest.findtext('version') == rl_nodes.__version__
    assert setup_arguments['version'] == rl_nodes.__version__


def test_setup_agrees_with_the_manifest(manifest, setup_arguments):
    assert setup_arguments['description'] == manifest.findtext('description')
    assert setup_arguments['license'] == manifest.findtext('license')
    assert setup_arguments['maintainer_email'] == manifest.find('maintainer').get('email')


def test_no_metadata_where_colcon_does_not_look():
    assert '[project]' not in (ROOT / 'pyproject.toml').read_text()


def test_ros_packages_are_never_plain_requirements(setup_arguments):
    for line in setup_arguments['install_requires']:
        assert not re.match(r'(ros-|rclpy|launch|.*_msgs)', line)


def test_every_shipped_file_is_installed(setup_arguments):
    installed = {name for _, names in setup_arguments['data_files'] for name in names}
    for folder in ('launch', 'config', 'urdf'):
        for path in (ROOT / folder).rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                assert str(path.relative_to(ROOT)) in installed


@pytest.mark.parametrize('name', ['rl_nodes', *NODES])
def test_entry_point_leads_to_a_function(name, setup_arguments):
    points = dict(re.split(' = ', line) for line in
                  setup_arguments['entry_points']['console_scripts'])
    module, function = points[name].split(':')
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f'{module} does not exist'
    tree = ast.parse(Path(spec.origin).read_text(encoding='utf-8'))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    imported = [alias.asname or alias.name for node in tree.body
                if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert function in functions + imported


def test_every_graph_has_a_launch_file():
    assert {path.name for path in (ROOT / 'launch').glob('*.launch.py')} == {
        f'{name}.launch.py' for name in GRAPHS}


def test_tested_torch_is_the_one_that_make_installs():
    pinned = re.search(r'^torch==(.+)$', (ROOT / 'constraints.txt').read_text(), re.M).group(1)
    assert f'torch=={pinned}' in (ROOT / 'Makefile').read_text()


def test_colcon_knows_to_run_pytest(setup_arguments):
    # Without this "colcon test" looks for unittest cases, finds none and is content.
    assert 'pytest' in setup_arguments['extras_require']['test']
