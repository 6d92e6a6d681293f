# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The chain against a product of 4x4 matrices, with fixed, revolute and prismatic joints."""

from pathlib import Path

import numpy as np
from rl_nodes.core.kinematics import Chain, Tree
from rl_nodes.core.rotations import rotation_about
from rl_nodes.core.urdf import load_urdf, parse_urdf

LINKS = ['base', 'a', 'b', 'c', 'd', 'tip']
KINDS = ['revolute', 'fixed', 'prismatic', 'revolute', 'fixed']
AXES = np.array([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0], [0.0, -0.6, 0.8], [1.0, 0.0, 0.0],
                 [0.0, 0.0, 1.0]])


def write_urdf(path: Path) -> Path:
    joints = ''.join(
        f'<joint name="j{i}" type="{kind}"><parent link="{LINKS[i]}"/><child link="{LINKS[i + 1]}"'
        f'/><origin xyz="0.{i + 1} 0.2 -0.1" rpy="0.3 -0.{i} 0.5"/>'
        f'<axis xyz="{" ".join(map(str, AXES[i]))}"/>'
        '<limit lower="-2" upper="2" velocity="1" effort="1"/></joint>'
        for i, kind in enumerate(KINDS))
    path.write_text('<robot name="r">' + ''.join(f'<link name="{name}"/>' for name in LINKS)
                    + joints + '</robot>')
    return path


def test_tip_equals_the_product_of_all_transforms(tmp_path: Path) -> None:
    urdf = load_urdf(write_urdf(tmp_path / 'r.urdf'))
    order = ('j3', 'j0', 'j2')  # not that of the chain
    chain = Chain(urdf, 'base', 'tip', order)
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = rng.uniform(-2, 2, 3)
        value = dict(zip(order, q))
        expected = np.eye(4)
        for i, kind in enumerate(KINDS):
            joint, move = urdf.joints[f'j{i}'], np.eye(4)
            move[:3, :3], move[:3, 3] = joint.rotation, joint.offset
            expected = expected @ move
            move = np.eye(4)
            if kind == 'revolute':
                move[:3, :3] = rotation_about(AXES[i], value[f'j{i}'])
            elif kind == 'prismatic':
                move[:3, 3] = AXES[i] * value[f'j{i}']
            expected = expected @ move
        position, rotation = chain.tip(q)
        np.testing.assert_allclose(position, expected[:3, 3], atol=1e-14)
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-14)
        assert position.tobytes() == chain.tip_position(q).tobytes()


BRANCHES = """<robot name="r">
  <link name="base"/><link name="a"/><link name="b"/><link name="c"/><link name="d"/>
  <link name="e"/>
  <joint name="slide" type="prismatic"><parent link="base"/><child link="a"/>
    <origin xyz="0.1 0.2 0.3" rpy="0.3 -0.2 0.5"/><axis xyz="0 0.6 0.8"/>
    <limit lower="-1" upper="1" velocity="1" effort="1"/></joint>
  <joint name="weld" type="fixed"><parent link="a"/><child link="b"/>
    <origin xyz="0 0.1 0" rpy="0 0.4 0"/></joint>
  <joint name="turn" type="revolute"><parent link="b"/><child link="c"/>
    <origin xyz="0.2 0 0" rpy="0.7 0 0"/><axis xyz="1 0 0"/>
    <limit lower="-2" upper="2" velocity="1" effort="1"/></joint>
  <joint name="roll" type="continuous"><parent link="a"/><child link="d"/>
    <origin xyz="0 0 0.5" rpy="0 0 1"/><axis xyz="0.6 0 0.8"/>
    <limit velocity="1" effort="1"/></joint>
  <joint name="tip" type="fixed"><parent link="d"/><child link="e"/>
    <origin xyz="0.3 0.1 0" rpy="0 0 0.2"/></joint>
</robot>"""


def test_tree_has_the_frames_that_chains_to_each_link_give() -> None:
    urdf, order = parse_urdf(BRANCHES, 'r.urdf'), ('turn', 'roll', 'slide')
    tree = Tree(urdf, 'base', order)
    assert set(tree.links) == set(urdf.links)
    assert sorted(tree.parents) == [-1, 0, 1, 1]
    assert tree.links['b'][0] == tree.links['a'][0], 'a fixed joint makes no frame'
    for q in np.random.default_rng(0).uniform(-1, 1, (20, 3)):
        frames = tree.frames(q)
        for link, (index, offset, rotation) in tree.links.items():
            x, y, z, *turn = frames[index]
            turn = np.array(turn).reshape(3, 3)
            position, orientation = Chain(urdf, 'base', link, order).tip(q)
            np.testing.assert_allclose(np.array([x, y, z]) + turn @ offset, position, atol=1e-14)
            np.testing.assert_allclose(turn @ rotation, orientation, atol=1e-14)
