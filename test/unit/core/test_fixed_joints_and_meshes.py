# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Robots of other people: joints that are not used, meshes wherever they lie, PyBullet's files."""

from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core import resources
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.kinematics import Chain
from rl_nodes.core.meshes import find_mesh, vertices, with_mesh_paths
from rl_nodes.core.resources import find_config, find_urdf
from rl_nodes.core.robot import load_robot
from rl_nodes.core.rotations import rotation_from_rpy, rpy_from_rotation
from rl_nodes.core.urdf import load_urdf

URDF = """<robot name="two"><link name="base"/><link name="a">
<visual><geometry><mesh filename="package://two_description/meshes/a.stl"/></geometry></visual>
</link><link name="b"/><link name="tip"/>
<joint name="turn" type="revolute"><parent link="base"/><child link="a"/>
 <origin xyz="0.1 0.2 0.3" rpy="0.3 -0.2 0.5"/><axis xyz="0 0.6 0.8"/>
 <limit lower="-1" upper="2" velocity="1" effort="1"/></joint>
<joint name="slide" type="prismatic"><parent link="a"/><child link="b"/>
 <origin xyz="0 0 0.2" rpy="0 0.4 0"/><axis xyz="1 0 0"/>
 <limit lower="0" upper="0.5" velocity="1" effort="1"/><mimic joint="turn"/></joint>
<joint name="last" type="continuous"><parent link="b"/><child link="tip"/>
 <origin xyz="0.3 0 0"/><axis xyz="0 1 0"/></joint>
<joint name="plate" type="fixed"><parent link="tip"/><child link="end"/><axis xyz="0 0 0"/></joint>
<link name="end"/></robot>"""


@pytest.fixture
def urdf(tmp_path: Path) -> Path:
    path = tmp_path / 'checkout' / 'urdf' / 'two.urdf'
    path.parent.mkdir(parents=True)
    path.write_text(URDF)
    return path


@pytest.mark.parametrize('fixed', [{'turn': 0.7}, {'slide': 0.4}, {'turn': -0.5, 'slide': 0.1}])
def test_a_fixed_joint_stays_where_it_was_put(urdf: Path, fixed: dict[str, float]) -> None:
    free, held = load_urdf(urdf), load_urdf(urdf, fixed)
    names = tuple(joint.name for joint in free.movable())
    left = tuple(name for name in names if name not in fixed)
    assert tuple(joint.name for joint in held.movable()) == left
    rng = np.random.default_rng(0)
    for _ in range(5):
        q = rng.uniform(-1, 1, 3)
        whole = np.array([fixed.get(name, value) for name, value in zip(names, q)])
        part = np.array([value for name, value in zip(names, q) if name not in fixed])
        for expected, found in zip(Chain(free, 'base', 'end', names).tip(whole),
                                   Chain(held, 'base', 'end', left).tip(part)):
            np.testing.assert_allclose(found, expected, atol=1e-12)
    assert 'mimic' not in held.text or 'slide' not in fixed


@pytest.mark.parametrize(('fixed', 'message'), [
    ({'trun': 0.0}, "'trun' is no movable joint .did you mean 'turn'.*turn, slide, last"),
    ({'plate': 0.0}, "'plate' is no movable joint"),
    ({'slide': 0.6}, r'slide = 0.6 is outside \[0.0, 0.5\]')])
def test_what_cannot_be_fixed_is_refused(urdf: Path, fixed: dict[str, float],
                                         message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_urdf(urdf, fixed)


def test_an_axis_without_direction_is_refused(urdf: Path) -> None:
    urdf.write_text(URDF.replace('0 0.6 0.8', '0 0 0'))
    with pytest.raises(ConfigError, match='turn.*has no direction'):
        load_urdf(urdf)


@pytest.mark.parametrize('rpy', [(0.1, -0.4, 2.0), (0, np.pi / 2, 0.7), (-3.0, 1.2, -3.0),
                                 (0.5, -np.pi / 2, 0.2)])
def test_angles_give_the_rotation_that_they_came_from(rpy: tuple[float, ...]) -> None:
    rotation = rotation_from_rpy(np.array(rpy))
    np.testing.assert_allclose(rotation_from_rpy(rpy_from_rotation(rotation)), rotation,
                               atol=1e-9)


@pytest.mark.parametrize('where', ['two_description/meshes', 'checkout/meshes',
                                   'checkout/urdf/two_description/meshes',
                                   'prefix/share/two_description/meshes'])
def test_a_package_is_found_wherever_it_lies(urdf: Path, tmp_path: Path, where: str,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'checkout' / 'package.xml').write_text('<package/>')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))
    reference = 'package://two_description/meshes/a.stl'
    assert find_mesh(reference, urdf) is None
    with pytest.raises(ConfigError, match=f"mesh '{reference}' of link 'a' is not there"):
        with_mesh_paths(load_urdf(urdf))
    mesh = tmp_path / where / 'a.stl'
    mesh.parent.mkdir(parents=True)
    mesh.write_bytes(b'')
    assert find_mesh(reference, urdf) == mesh
    assert find_mesh(f'file://{mesh}', urdf) == mesh
    root = with_mesh_paths(load_urdf(urdf))
    assert [element.get('filename') for element in root.iter('mesh')] == [str(mesh)]


def test_a_file_of_pybullet_is_named_by_its_place_in_the_package() -> None:
    pytest.importorskip('pybullet_data')
    beside = Path('panda.yaml')
    path = find_urdf('pybullet_data:franka_panda/panda.urdf', beside)
    assert path.is_file()
    with pytest.raises(ConfigError, match="did you mean 'franka_panda/panda.urdf'"):
        find_urdf('pybullet_data:franka_panda/pandas.urdf', beside)


def test_without_pybullet_its_robots_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, 'find_spec', lambda name: None)
    with pytest.raises(ConfigError, match='comes with PyBullet and is not installed'):
        load_robot('panda')


def test_a_urdf_is_a_robot_where_its_configuration_lies_beside_it(urdf: Path) -> None:
    with pytest.raises(ConfigError, match=f'make one to edit: rl_nodes robot init {urdf}'):
        find_config('robots', str(urdf))
    urdf.with_suffix('.yaml').write_text('')
    assert find_config('robots', str(urdf)) == urdf.with_suffix('.yaml')
    with pytest.raises(ConfigError, match='no file .*three.urdf'):
        find_config('robots', str(urdf.with_stem('three')))


def test_the_panda_keeps_its_gripper_shut() -> None:
    pytest.importorskip('pybullet_data')
    robot = load_robot('panda')
    assert len(robot.joint_names) == 7
    assert robot.urdf.joints['panda_finger_joint1'].kind == 'fixed'


def test_corners_of_meshes_of_all_formats(tmp_path: Path) -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1.5, 0], [0, 0, -2]], float)
    faces = corners[[[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]]
    expected = np.unique(corners, axis=0)
    (tmp_path / 'm.obj').write_text(''.join(f'v {x} {y} {z} 1.0\n' for x, y, z in corners)
                                    + 'vn 0 0 1\nf 1 2 3\n')
    (tmp_path / 'a.stl').write_text('solid m\n' + ''.join(
        f'  vertex {x} {y} {z}\n' for x, y, z in faces.reshape(-1, 3)) + 'endsolid\n')
    binary = bytes(80) + len(faces).to_bytes(4, 'little') + b''.join(
        np.zeros(3, '<f4').tobytes() + face.astype('<f4').tobytes() + b'\0\0' for face in faces)
    (tmp_path / 'B.STL').write_bytes(binary)
    for name in ('m.obj', 'a.stl', 'B.STL'):
        np.testing.assert_array_equal(vertices(tmp_path / name), expected)


@pytest.mark.parametrize(('name', 'data', 'words'), [
    ('m.dae', b'x', '.obj and .stl meshes only'),
    ('m.obj', b'v 0 0 nought', 'not a readable mesh'),
    ('m.obj', b'v 0 0 0\nv 1 1 1\nv 1 0 0\n', 'four corners'), ('m.stl', b'', 'four corners'),
    ('m.obj', b'v 0 0 nan\nv 1 1 1\nv 1 0 0\nv 0 0 1\n', 'all of them finite'),
    ('m.obj', b'v 0 0\nv 1 1\nv 1 0\nv 0 0\n', 'four corners')])
def test_a_mesh_that_has_no_body_is_refused(tmp_path: Path, name, data, words) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        vertices(tmp_path / name)
    with pytest.raises(ConfigError, match='not a readable mesh'):
        vertices(tmp_path / 'none.obj')
