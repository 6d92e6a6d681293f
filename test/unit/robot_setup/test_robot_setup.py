# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""``rl_nodes robot init`` and ``check``: every known fault of a URDF is found and told."""

from pathlib import Path
import re

import pytest
from rl_nodes.cli import main
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import load_robot
from rl_nodes.core.urdf import load_urdf, parse_urdf
from rl_nodes.robot_setup.check import check, init
from rl_nodes.robot_setup.inspection import inspect, require_one_robot

INERTIA = '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/>'
HEAVY = f'<inertial><mass value="1"/>{INERTIA}</inertial>'
LIMIT = '<limit lower="-1" upper="2" velocity="3" effort="4"/>'
BALL = '<collision><geometry><sphere radius="0.1"/></geometry></collision>'


def link(name: str, inside: str = HEAVY) -> str:
    return f'<link name="{name}">{inside}</link>'


def joint(name: str, parent: str, child: str, inside: str = LIMIT, kind: str = 'revolute',
          origin: str = '0 0 0.5') -> str:
    return (f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{origin}"/><axis xyz="0 1 0"/>{inside}</joint>')


def robot(*parts: str) -> str:
    return f'<robot name="r">{"".join(parts)}</robot>'


ARM = (link('base'), link('upper'), link('lower'), link('camera'), link('tool0', ''),
       joint('j1', 'base', 'upper'), joint('j2', 'upper', 'lower', LIMIT.replace('-1', '0.5')),
       joint('j3', 'lower', 'tool0', '', 'fixed'), joint('j4', 'lower', 'camera', '', 'fixed'))


def legs(inside: str = LIMIT, kind: str = 'revolute') -> str:
    return robot(link('trunk'), link('left', HEAVY + BALL), link('right', HEAVY + BALL),
                 joint('l', 'trunk', 'left', inside, kind, '0 0.2 -0.3'),
                 joint('r', 'trunk', 'right', inside, kind, '0 -0.2 -0.3'))


def found(text: str) -> list[str]:
    return [str(problem) for problem in inspect(parse_urdf(text, 'r.urdf'))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sound_arm_becomes_a_robot_that_loads(folder: Path) -> None:
    (folder / 'r.urdf').write_text(robot(*ARM))
    report, usable = init('r.urdf')
    assert usable
    target = folder / 'r.yaml'
    assert report == (f'wrote {target}\nnothing is wrong with the URDF\n'
                      f'edit it, then: rl_nodes robot check {target}')
    made = load_robot('r.urdf')
    assert made.joint_names == ('j1', 'j2')
    assert made.home.tolist() == [0.0, 1.25], '0 where it is in the limits, else the middle'
    assert (made.config.base_link, made.config.tool_link) == ('base', 'tool0')
    assert made.home_base is None
    assert (folder / 'r.yaml').read_text().startswith('# r: 4.000 kg, 5 links, 2 movable')
    report, usable = check('r.yaml')
    assert usable
    assert 'j2     1.25  0.5    2      3         4       rad' in report


def test_nothing_is_overwritten(folder: Path) -> None:
    (folder / 'r.urdf').write_text(robot(*ARM))
    init('r.urdf')
    with pytest.raises(ConfigError, match=r'r.yaml exists; .* output:=other.yaml'):
        init('r.urdf')
    init('r.urdf', 'sub.yaml')
    with pytest.raises(ConfigError, match='ends in .yaml'):
        init('r.urdf', 'robot.txt')
    with pytest.raises(ConfigError, match='cannot be written'):
        init('r.urdf', 'no/such/folder.yaml')


def test_a_configuration_elsewhere_finds_its_urdf(folder: Path) -> None:
    (folder / 'description').mkdir()
    (folder / 'config').mkdir()
    (folder / 'description' / 'r.urdf').write_text(robot(*ARM))
    init('description/r.urdf', 'config/mine.yaml')
    assert load_robot('config/mine.yaml').urdf.path == folder / 'description' / 'r.urdf'


def test_limbs_at_the_root_make_a_floating_base_that_stands(folder: Path) -> None:
    (folder / 'r.urdf').write_text(legs())
    init('r.urdf')
    made = load_robot('r.yaml')
    assert made.config.control_mode == 'position'
    assert made.home_base.position[2] == pytest.approx(0.4), '0.3 m down to a ball of 0.1 m'


def test_wheels_are_driven_by_speed(folder: Path) -> None:
    (folder / 'r.urdf').write_text(legs('<limit velocity="9" effort="2"/>', 'continuous'))
    init('r.urdf')
    assert load_robot('r.yaml').config.control_mode == 'velocity'


def test_what_the_urdf_does_not_say_is_asked_for(folder: Path) -> None:
    path = folder / 'r.urdf'
    path.write_text(robot(*ARM).replace('velocity="3" ', '', 1))
    report, usable = init('r.urdf')
    assert not usable
    assert 'FAIL  j1: velocity limit is None; give velocity: [rad/s]' in report
    assert 'not usable yet: ' in report and "joint 'j1' has no velocity limit" in report
    text = (folder / 'r.yaml').read_text()
    line = next(line for line in text.splitlines() if 'j1' in line)
    assert 'velocity: null' in line and line.endswith('GIVE VELOCITY')
    (folder / 'r.yaml').write_text(text.replace('velocity: null', 'velocity: 1.5'))
    report, usable = check('r.yaml')
    assert usable
    assert '1.5*' in report


def test_a_mimicking_joint_is_fixed_in_the_draft(folder: Path) -> None:
    (folder / 'r.urdf').write_text(robot(*ARM).replace(
        f'{LIMIT}</joint>', f'{LIMIT}<mimic joint="j2"/></joint>', 1))
    report, usable = init('r.urdf')
    assert usable
    assert 'note  j1: mimics j2' in report
    assert load_robot('r.yaml').joint_names == ('j2',)


@pytest.mark.parametrize(('change', 'told'), [
    (('<mass value="1"/>', '<mass value="0"/>'), 'FAIL  upper: moves and has no mass'),
    (('<mass value="1"/>', '<mass value="-1"/>'), 'FAIL  upper: mass -1 kg'),
    ((INERTIA, ''), 'FAIL  upper: 1 kg without <inertia>'),
    (('ixx="0.01"', 'ixx="-0.01"'), 'FAIL  upper: principal moments .* are not all positive'),
    (('ixx="0.01"', 'ixx="0.1"'), 'note  upper: principal moments .* sum of the others'),
    (('<mass value="1"/>', '<mass value="0.001"/>'), 'note  upper: .* gyration of 3.16'),
    ((HEAVY, ''), 'FAIL  upper: moves and has no mass')])
def test_inertias_are_judged(change: tuple[str, str], told: str) -> None:
    text = robot(link('base'), link('upper', HEAVY.replace(*change)), joint('j', 'base', 'upper'))
    problems = found(text)
    assert len(problems) == 1
    assert re.search(told, problems[0])


@pytest.mark.parametrize(('inside', 'kind', 'told'), [
    ('', 'revolute', 'limits 0.0 to 0.0: no range'),
    (LIMIT.replace('-1', '3'), 'revolute', 'limits 3.0 to 2.0: no range'),
    ('<limit velocity="1" effort="1"/>', 'continuous', 'continuous: it has no position limits'),
    (LIMIT.replace('"4"', '"0"'), 'revolute', 'effort limit is 0.0; give effort: .N·m.'),
    (LIMIT.replace('"3"', '"-3"'), 'prismatic', 'velocity limit is -3.0; give velocity: .m/s.'),
    (LIMIT.replace('"3"', '"300"'), 'revolute', 'velocity limit 300 rad/s')])
def test_limits_are_judged(inside: str, kind: str, told: str) -> None:
    text = robot(link('base'), link('upper'), joint('j', 'base', 'upper', inside, kind))
    assert [problem for problem in found(text) if re.search(f'j: {told}', problem)]


@pytest.mark.parametrize(('shape', 'told'), [
    ('<mesh filename="package://x/y.stl"/>', 'FAIL .*mesh package://x/y.stl is not there'),
    ('<mesh filename="there.dae"/>', 'note .*there.dae: MuJoCo reads .obj, .stl, .msh only'),
    ('<sphere radius="0"/>', 'FAIL .*shape has a size of 0')])
def test_shapes_are_judged(folder: Path, shape: str, told: str) -> None:
    (folder / 'there.dae').write_text('')
    (folder / 'r.urdf').write_text(robot(
        link('base', f'<collision><geometry>{shape}</geometry></collision>'), link('upper'),
        joint('j', 'base', 'upper')))
    problems = [str(problem) for problem in inspect(load_urdf(folder / 'r.urdf'))]
    assert [problem for problem in problems if re.search(told, problem)]


@pytest.mark.parametrize(('parts', 'told'), [
    ((*ARM, link('other')), '2 root links: base, other'),
    ((*ARM, joint('j5', 'base', 'tool0')), 'tool0: 2 joints lead to it: a loop'),
    ((*ARM, joint('j5', 'base', 'ghost')), "j5: its link 'ghost' does not exist"),
    ((*ARM, link('base')), 'base: 2 links have this name'),
    ((link('base'),), 'no joint moves')])
def test_what_is_not_one_robot_is_refused(parts: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        require_one_robot(parse_urdf(robot(*parts), 'r.urdf'))


@pytest.mark.parametrize('macro', ['<xacro:macro name="x"/>', '<link name="${prefix}arm"/>'])
def test_xacro_has_to_be_expanded(folder: Path, macro: str) -> None:
    (folder / 'r.urdf').write_text(robot(macro))
    with pytest.raises(ConfigError, match='expand it first: xacro .*r.urdf > robot.urdf'):
        init('r.urdf')


def test_the_same_fault_of_several_joints_is_told_once(folder: Path) -> None:
    (folder / 'r.urdf').write_text(legs('<limit lower="-1" upper="1" velocity="1"/>'))
    report, _ = check('r.urdf')
    assert 'FAIL  l, r: effort limit is None' in report
    assert report.endswith('no configuration yet: rl_nodes robot init r.urdf')


def test_the_command_says_by_its_status_whether_the_robot_is_usable(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / 'r.urdf').write_text(robot(*ARM))
    assert main(['robot', 'check', 'r.urdf']) == 1
    assert main(['robot', 'init', 'r.urdf', 'output:=mine.yaml']) == 0
    with (folder / 'mine.yaml').open('a') as file:
        file.write('cameras: [{name: eye, link: camera, topic: /usb_cam/image_raw/compressed}]\n')
    assert main(['robot', 'check', 'mine.yaml']) == 0
    told = capsys.readouterr().out
    assert 'tool tool0' in told
    assert ('camera eye on camera: 640 x 480 at 15 Hz; of a physical robot heard on '
            '/usb_cam/image_raw/compressed (sensor_msgs/msg/CompressedImage)') in told
    assert main(['robot', 'init', 'r.urdf', 'input:=x']) == 2
    assert 'only init takes output' in capsys.readouterr().err
    assert main(['robot', 'init', 'nothing.urdf']) == 2
