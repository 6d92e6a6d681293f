# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What covers a body covers it, and distances are those that a dense search finds."""

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.rotations import rotation_from_rpy
from rl_nodes.core.urdf import parse_urdf
from rl_nodes.safety import capsules

TURN = rotation_from_rpy(np.array([0.4, -0.7, 1.1]))
SHIFT = np.array([0.3, -0.2, 0.5])


def inside(points, cover) -> np.ndarray:
    """Return whether each point is in one of the capsules."""
    found = np.zeros(len(points), bool)
    for start, end, radius in cover:
        a, u = np.array(start), np.array(end) - np.array(start)
        t = np.clip((points - a) @ u / max(u @ u, 1e-30), 0, 1)
        found |= np.linalg.norm(points - a - t[:, None] * u, axis=1) <= radius
    return found


def sample(shape, size, rng, count=3000) -> np.ndarray:
    """Return points on the surface of a body, the corners among them."""
    if shape == 'box':
        points = rng.uniform(-0.5, 0.5, (count, 3))
        points[np.arange(count), rng.integers(3, size=count)] = rng.choice([-0.5, 0.5], count)
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
        return np.concatenate([points, corners]) * size
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    if shape == 'sphere':
        return direction * size[0]
    if shape == 'capsule':
        return direction * size[0] + np.sign(direction[:, 2:]) * [0, 0, size[1] / 2]
    angle = rng.uniform(0, 2 * np.pi, count)
    return np.stack([size[0] * np.cos(angle), size[0] * np.sin(angle),
                     rng.choice([-size[1] / 2, size[1] / 2], count)], axis=1)


@pytest.mark.parametrize(('shape', 'size', 'count', 'slack'), [
    ('box', (0.05, 0.05, 0.17), 1, 2.0), ('box', (0.3, 0.04, 0.1), 3, 2.2),
    ('box', (0.1, 0.1, 0.1), 1, 3.0), ('box', (0.4, 0.4, 0.001), 8, 50.0),
    ('cylinder', (0.06, 0.08), 1, 1.8), ('cylinder', (0.02, 0.3), 1, 1.2),
    ('cylinder', (0.1, 0.01), 1, 15.0), ('sphere', (0.1,), 1, 1.01),
    ('capsule', (0.03, 0.2), 1, 1.01)])
def test_a_cover_covers_and_is_not_lavish(shape, size, count, slack) -> None:
    cover = capsules.cover(shape, size, SHIFT, TURN)
    points = SHIFT + sample(shape, size, np.random.default_rng(0)) @ TURN.T
    assert len(cover) == count
    assert inside(points, cover).all()
    volume = sum(np.pi * r ** 2 * (np.linalg.norm(np.subtract(b, a)) + 4 / 3 * r)
                 for a, b, r in cover)
    body = {'box': np.prod(size), 'sphere': 4 / 3 * np.pi * size[0] ** 3,
            'cylinder': np.pi * size[0] ** 2 * size[-1],
            'capsule': np.pi * size[0] ** 2 * (size[-1] + 4 / 3 * size[0])}[shape]
    assert volume <= slack * body


def test_points_are_covered_along_their_longest_direction() -> None:
    rng = np.random.default_rng(1)
    points = SHIFT + (rng.standard_normal((200, 3)) * [0.01, 0.02, 0.2]) @ TURN.T
    capsule = capsules.around(points)
    assert inside(points, [capsule]).all()
    along = np.subtract(capsule.end, capsule.start)
    assert abs(along @ TURN[:, 2]) / np.linalg.norm(along) > 0.99
    flat = capsules.around(np.array([[1.0, 2.0, 3.0]] * 2))
    assert flat.radius < 1e-8, 'one point twice'


def densely(a, b, distance_of, count=4001) -> float:
    t = np.linspace(0, 1, count)[:, None]
    return float(distance_of(np.array(a) + t * (np.array(b) - np.array(a))).min())


def to_segment(points, c, d) -> np.ndarray:
    c, u = np.array(c), np.array(d) - np.array(c)
    t = np.clip((points - c) @ u / max(u @ u, 1e-300), 0, 1)
    return np.linalg.norm(points - c - t[:, None] * u, axis=1)


def test_distance_of_segments() -> None:
    rng = np.random.default_rng(2)
    for k in range(400):
        a, b, c, d = rng.uniform(-1, 1, (4, 3)).round(1 if k % 2 else 9)
        if k % 5 == 0:
            d = c + (b - a) * rng.choice([-1.0, 0.0, 0.5, 2.0])  # parallel, or a point
        if k % 7 == 0:
            b = a
        found = capsules.segments_apart(*(tuple(p.tolist()) for p in (a, b, c, d)))
        assert found == pytest.approx(densely(a, b, lambda p: to_segment(p, c, d)), abs=1e-3)
        assert found <= densely(a, b, lambda p: to_segment(p, c, d)) + 1e-12


@pytest.mark.parametrize(('segments', 'distance'), [
    (((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)), 1.0),           # parallel
    (((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)), 1.0),           # in line
    (((0, 0, 0), (1, 0, 0), (0.5, -1, 2), (0.5, 1, 2)), 2.0),      # crossing above
    (((0, 0, 0), (1, 0, 0), (0.5, 1, 0), (0.5, 3, 0)), 1.0),       # end against the middle
    (((0, 0, 0), (0, 0, 0), (3, 4, 0), (3, 4, 0)), 5.0),           # two points
    (((0, 0, 0), (1, 0, 0), (0.25, -1, 0), (0.25, 1, 0)), 0.0)])   # through each other
def test_distance_of_segments_by_hand(segments, distance) -> None:
    assert capsules.segments_apart(*segments) == pytest.approx(distance, abs=1e-12)
    a, b, c, d = segments
    for other in ((c, d, a, b), (b, a, c, d), (a, b, d, c)):
        assert capsules.segments_apart(*other) == pytest.approx(distance, abs=1e-12)


def test_distance_to_a_box() -> None:
    rng, half = np.random.default_rng(3), np.array([0.3, 0.5, 0.2])
    for k in range(400):
        a, b = rng.uniform(-1.2, 1.2, (2, 3)).round(1 if k % 2 else 9)
        if k % 5 == 0:
            b[k % 3] = a[k % 3]
        if k % 11 == 0:
            b = a
        dense = densely(a, b, lambda p: np.linalg.norm(np.maximum(np.abs(p) - half, 0), axis=1))
        found = capsules.box_apart(tuple(a.tolist()), tuple(b.tolist()), tuple(half.tolist()))
        assert found == pytest.approx(dense, abs=1e-3)
        assert found <= dense + 1e-12


@pytest.mark.parametrize(('a', 'b', 'distance'), [
    ((2, 0, 0), (2, 3, 0), 1.0), ((2, -3, 0), (2, 3, 0), 1.0), ((-2, 2, 2), (2, 2, 2), 2 ** 0.5),
    ((0, 0, -5), (0, 0, 5), 0.0), ((0.5, 0, 0), (0.6, 0, 0), 0.0), ((3, 0, 0), (2, 0, 0), 1.0),
    ((0, 0, -3), (0, 0, -2), 1.0), ((4, 0, 0), (0, 4, 0), 2 ** 0.5)])
def test_distance_to_a_box_by_hand(a, b, distance) -> None:
    for start, end in ((a, b), (b, a)):
        assert capsules.box_apart(start, end, (1.0, 1.0, 1.0)) == pytest.approx(distance)


def urdf_with(geometry: str, path: str = 'x.urdf', origin: str = '<origin xyz="1 2 3"/>'):
    return parse_urdf(f'<robot name="r"><link name="a"><collision>{origin}<geometry>{geometry}'
                      '</geometry></collision></link><link name="b"/></robot>', path)


def test_collision_geometry_of_a_urdf(tmp_path) -> None:
    for geometry in ('<box size="0.1 0.1 0.2"/>', '<sphere radius="0.1"/>',
                     '<cylinder radius="0.05" length="0.2"/>',
                     '<capsule radius="0.05" length="0.2"/>'):
        found = capsules.of_links(urdf_with(geometry))
        assert found['b'] == []
        middle = (np.array(found['a'][0].start) + found['a'][0].end) / 2
        np.testing.assert_allclose(middle, [1, 2, 3], atol=1e-6)
    bare = capsules.of_links(urdf_with('<sphere radius="0.1"/>', origin=''))
    assert bare['a'][0].start == (0.0, 0.0, 0.0)
    turned = capsules.of_links(urdf_with('<capsule radius="0.05" length="0.2"/>',
                                         origin='<origin rpy="0 1.5707963267948966 0"/>'))
    np.testing.assert_allclose(np.abs(turned['a'][0].start), [0.1, 0, 0], atol=1e-8)
    (tmp_path / 'm.obj').write_text('v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\n')
    mesh = capsules.of_links(urdf_with('<mesh filename="m.obj" scale="0.1 0.1 0.2"/>',
                                       str(tmp_path / 'x.urdf')))['a']
    corners = np.array([1, 2, 3]) + np.array([[0, 0, 0], [.1, 0, 0], [0, .1, 0], [0, 0, .2]])
    assert inside(corners, mesh).all()
    assert mesh[0].radius < 0.1


@pytest.mark.parametrize(('geometry', 'words'), [
    ('<mesh filename="none.obj"/>', "mesh 'none.obj' is not there"),
    ('<cone radius="1"/>', 'collision geometry <cone>; known: box'),
    ('<sphere/>', '<sphere> without a size'), ('<cylinder radius="0" length="1"/>', 'without a'),
    ('<box size="1 1"/>', 'not three finite numbers'), ('<box size="1 1 nan"/>', 'not three')])
def test_collision_geometry_that_says_nothing_is_refused(geometry, words) -> None:
    with pytest.raises(ConfigError, match=words):
        capsules.of_links(urdf_with(geometry))
