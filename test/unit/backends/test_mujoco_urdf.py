# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What MuJoCo gets of a URDF and its meshes."""

from pathlib import Path
import xml.etree.ElementTree as ElementTree

import pytest
from rl_nodes.backends.mujoco_urdf import mujoco_urdf
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.urdf import load_urdf

TETRAHEDRON = b'v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n'


def description(folder: Path, visual: str, collision: str) -> Path:
    path = folder / 'r.urdf'
    path.write_text(f"""<robot name="r"><mujoco><compiler fusestatic="true"/></mujoco>
<link name="a"><visual><geometry><mesh filename="{visual}"/></geometry></visual>
<collision><geometry><mesh filename="{collision}"/></geometry></collision></link><link name="b"/>
<joint name="j" type="revolute"><parent link="a"/><child link="b"/><mimic joint="j"/>
<limit lower="0" upper="1"/></joint></robot>""")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ('visual/a.obj', 'collision/a.obj', 'a.dae'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_meshes_of_one_file_name_stay_apart(folder: Path) -> None:
    text, meshes = mujoco_urdf(load_urdf(description(folder, 'visual/a.obj', 'collision/a.obj')))
    root = ElementTree.fromstring(text)
    names = [mesh.get('filename') for mesh in root.iter('mesh')]
    assert [meshes[name] for name in names] == [b'visual/a.obj', b'collision/a.obj']
    assert [element.get('name') for kind in ('visual', 'collision')
            for element in root.iter(kind)] == ['a/visual/0', 'a/collision/0']
    assert root.find('mujoco/compiler').get('fusestatic') == 'false'
    assert root.find('joint/mimic') is None


def test_a_mesh_used_twice_is_one(folder: Path) -> None:
    _, meshes = mujoco_urdf(load_urdf(description(folder, 'visual/a.obj', 'visual/a.obj')))
    assert len(meshes) == 1


def test_what_cannot_be_read_is_left_out_of_pictures_and_refused_for_collisions(
        folder: Path) -> None:
    text, meshes = mujoco_urdf(load_urdf(description(folder, 'a.dae', 'visual/a.obj')))
    assert 'visual' not in {element.tag for element in ElementTree.fromstring(text).iter()}
    assert list(meshes) == ['0.obj']
    with pytest.raises(ConfigError, match="collision mesh .*a.dae of link 'a'; convert it to one "
                                          'of .obj, .stl, .msh, or use backend:=pybullet'):
        mujoco_urdf(load_urdf(description(folder, 'visual/a.obj', 'a.dae')))


def test_the_groups_of_an_obj_file_become_one_shape(folder: Path) -> None:
    mujoco = pytest.importorskip('mujoco')
    lines = TETRAHEDRON.splitlines()
    apart = b'\n'.join([b'o one', *lines[:4], b'g x', *lines[4:6], b'o two', *lines[6:]])
    (folder / 'visual' / 'a.obj').write_bytes(apart)
    _, meshes = mujoco_urdf(load_urdf(description(folder, 'visual/a.obj', 'visual/a.obj')))
    spec = mujoco.MjSpec.from_string(
        '<mujoco><asset><mesh name="m" file="0.obj"/></asset><worldbody><geom type="mesh" '
        'mesh="m"/></worldbody></mujoco>', assets=meshes)
    assert spec.compile().mesh('m').facenum[0] == 4
