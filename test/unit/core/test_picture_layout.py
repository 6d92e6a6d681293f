# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that a policy observes: made smaller, promised in the contract, matched with states."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rl_nodes.core.config import convert, parse_yaml
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, ContractError, PictureError
from rl_nodes.core.picture_desk import MISSING, PictureDesk, REFUSED, STALE
from rl_nodes.core.pictures import AreaAverage, Picture, PictureSpec
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import RobotState
from rl_nodes.envs import ENVIRONMENTS
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task

MS = 1_000_000
Q = np.zeros(6)


def seeing(tmp_path: Path, pictures: str, robot: str = 'arm') -> Task:
    """Return the task reach with pictures."""
    path = tmp_path / 'see.yaml'
    path.write_text(f'{find_config("tasks", "reach").read_text()}pictures: {pictures}\n')
    return load_task(robot, str(path))


def overlap(source: int, target: int) -> np.ndarray:
    """Return the share of each source pixel in each target pixel, shape (target, source)."""
    edges = np.arange(target + 1) * source / target
    pixels = np.arange(source)
    return np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels),
                   0.0, None) * target / source


@pytest.mark.parametrize(('source', 'target'), [
    ((480, 640), (64, 64)), ((48, 64), (24, 32)), ((7, 5), (3, 5)), ((9, 16), (9, 16)),
    ((11, 13), (10, 1)), ((5, 3), (1, 1)), ((17, 6), (16, 5))])
@pytest.mark.parametrize('channels', [1, 3])
def test_area_average_against_real_numbers(source: tuple[int, int], target: tuple[int, int],
                                           channels: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*source, channels), np.uint8)
    expected = np.einsum('hH,wW,HWc->hwc', overlap(source[0], target[0]),
                         overlap(source[1], target[1]), picture.astype(float))
    found = AreaAverage(source, target)(picture)
    assert found.dtype == np.uint8 and found.shape == (*target, channels)
    assert np.abs(found - expected).max() <= 0.5 + 1e-9


def test_area_average_keeps_what_is_plain_and_copies() -> None:
    for value in (0, 255):
        large = np.full((1024, 1023, 3), value, np.uint8)
        assert (AreaAverage((1024, 1023), (3, 7))(large) == value).all()
    same = np.zeros((4, 4, 3), np.uint8)
    found = AreaAverage((4, 4), (4, 4))(same)
    same[:] = 9
    assert not found.any()


# --- contract and task --------------------------------------------------------------------------

@pytest.mark.parametrize(('robot', 'task'), sorted(ENVIRONMENTS.values()))
def test_contracts_without_pictures_do_not_mention_them(robot: str, task: str) -> None:
    contract = load_task(robot, task).contract
    fields = {field.encode_name for field in msgspec.structs.fields(Contract)}
    assert set(json.loads(contract.to_json())) <= fields - {'pictures'}
    assert contract.pictures == ()


def test_the_contract_says_what_is_seen_and_from_where(tmp_path: Path) -> None:
    plain = load_task('arm', 'reach').contract
    wrist = seeing(tmp_path, '[{camera: wrist, width: 64, height: 48}]').contract
    front = seeing(tmp_path, '[{camera: front, width: 64, height: 48}]').contract
    assert wrist.pictures == (PictureSpec('wrist', 64, 48, 0.3),)
    assert Contract.from_json(wrist.to_json()) == wrist
    assert len({plain.fingerprint(), wrist.fingerprint(), front.fingerprint()}) == 3
    lines = '\n'.join(wrist.explain(front, 'robot', 'policy'))
    assert 'pictures[0].camera: policy has front, robot has wrist' in lines
    assert 'kinematics' in lines
    with pytest.raises(ContractError, match='pictures: policy has None, robot has .*wrist'):
        wrist.require(plain, 'robot', 'policy')


def test_a_camera_that_looks_elsewhere_is_another_contract(tmp_path: Path) -> None:
    text = find_config('robots', 'arm').read_text().replace(
        'urdf: arm.urdf', f'urdf: {find_config("robots", "arm").parents[2] / "urdf/arm.urdf"}')
    turned = tmp_path / 'arm.yaml'
    turned.write_text(text.replace('rpy: [0.0, -1.4, 0.0]', 'rpy: [0.0, -1.3, 0.0]'))
    pictures = '[{camera: wrist, width: 64, height: 48}]'
    one, other = (seeing(tmp_path, pictures, robot).contract for robot in ('arm', str(turned)))
    assert [key for key, _, _ in one.differences(other)] == ['kinematics']


@pytest.mark.parametrize(('pictures', 'message'), [
    ('[{camera: wirst, width: 8, height: 8}]', "no camera 'wirst' (did you mean 'wrist'?)"),
    ('[{camera: wrist, width: 8, height: 8}, {camera: wrist, width: 9, height: 9}]', 'twice'),
    ('[{camera: wrist, width: 321, height: 8}]', 'the camera has only 320 x 240'),
    ('[{camera: wrist, width: 8, height: 8, max_age_s: 0.05}]', 'less than the 0.1 s between'),
    ('[{camera: wrist, width: 0, height: 8}]', 'width = 0'),
    ('[{camera: wrist, width: 8, height: 8, max_age_s: 0}]', 'max_age_s = 0'),
    ('[{camera: wrist, width: 8, height: 8, depth: 1}]', "unknown key 'depth'"),
    ('[{camera: wrist, width: 8}]', 'height'),
])
def test_wrong_pictures_are_named(tmp_path: Path, pictures: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        seeing(tmp_path, pictures)
    assert message in str(caught.value)


@pytest.mark.parametrize('pictures', [
    '[]', '[{camera: a, width: 8, height: 8}, {camera: a, width: 8, height: 8}]',
    '[{camera: a, width: 8, height: 100000}]'])
def test_hostile_contracts_are_refused(pictures: str) -> None:
    contract = msgspec.to_builtins(load_task('arm', 'reach').contract)
    contract |= parse_yaml(f'pictures: {pictures}', 'test')
    with pytest.raises(ContractError):
        Contract.from_json(msgspec.json.encode(contract))
    with pytest.raises(ConfigError):
        convert(contract, Contract, 'test')


# --- which picture goes with a state ------------------------------------------------------------

def state(stamp_ns: int, start_ns: int = 0) -> RobotState:
    return RobotState(stamp_ns, f'1@{start_ns}', Q, Q, np.empty(0))


def picture(stamp_ns: int, value: int = 0) -> Picture:
    return Picture(stamp_ns, np.full((48, 64, 3), value, np.uint8))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return seeing(tmp_path, '[{camera: wrist, width: 64, height: 48, max_age_s: 0.2}]')


def reason_of(desk: PictureDesk, at: RobotState) -> tuple[str, str]:
    with pytest.raises(PictureError) as caught:
        desk.look(at)
    return caught.value.reason, str(caught.value)


def test_in_real_time_the_newest_picture_unless_it_is_too_old(task: Task) -> None:
    desk, now = PictureDesk(task.sights), 10_000 * MS
    assert reason_of(desk, state(now)) == (MISSING, 'camera wrist has sent no picture yet')
    assert desk.awaited(state(now)) == ''
    desk.put('wrist', picture(now - 200 * MS, 7), 0.001)
    assert desk.look(state(now))[0][0, 0, 0] == 7
    reason, why = reason_of(desk, state(now + 1))
    assert reason == STALE and '0.20 s older than the state, allowed are 0.2 s' in why
    desk.put('wrist', picture(now + 201 * MS), 0.001)
    reason, why = reason_of(desk, state(now))
    assert reason == STALE and 'newer' in why and '-' not in why
    desk.put('wrist', picture(now), 0.001)  # it is back
    assert len(desk.look(state(now))) == 1
    desk.refuse('wrist', 'another size')
    assert reason_of(desk, state(now)) == (REFUSED, 'camera wrist: another size')
    desk.put('wrist', picture(now), 0.001)
    assert len(desk.look(state(now))) == 1
    found = desk.details()
    assert (found['wrist/pictures'], found['wrist/pictures_refused']) == (4, 1)
    assert found['wrist/age_max_ms'] == 200.0


def test_why_there_is_no_picture_is_told(task: Task) -> None:
    desk, now = PictureDesk(task.sights), 10_000 * MS
    desk.explain('wrist', 'nobody publishes /a')
    assert reason_of(desk, state(now)) == (
        MISSING, 'camera wrist has sent no picture yet: nobody publishes /a')
    desk.put('wrist', picture(now - 5000 * MS), 0.001)
    reason, why = reason_of(desk, state(now))  # just come and old: nobody is silent
    assert reason == STALE and 'nobody' not in why
    assert 'is stamped by another clock than the states' in why
    desk.explain('wrist', 'nobody publishes /a')
    desk._by_camera['wrist'].came_ns -= 5000 * MS
    reason, why = reason_of(desk, state(now))
    assert why.endswith('allowed are 0.2 s: nobody publishes /a') and 'clock' not in why
    desk.put('wrist', picture(now), 0.001)
    assert len(desk.look(state(now))) == 1


def test_in_lockstep_the_picture_of_the_grid_is_waited_for(task: Task) -> None:
    desk = PictureDesk(task.sights, task.pictured_at)
    stride, period = task.sights[0].stride, task.period_ns
    assert stride == 5  # 10 Hz of 50 Hz
    start = 12_345 * MS
    steps = [state(start + k * period, start) for k in range(2 * stride + 1)]
    grid = [start, start + stride * period, start + 2 * stride * period]
    assert [task.pictured_at(at, task.sights[0]) for at in steps] == [
        *[grid[0]] * stride, *[grid[1]] * stride, grid[2]]
    assert desk.awaited(steps[0]) == 'waiting for the picture of camera wrist'
    desk.put('wrist', picture(start - period), 0.001)  # of the episode before
    assert desk.awaited(steps[0])
    assert reason_of(desk, steps[0])[0] == MISSING
    desk.put('wrist', picture(start, 3), 0.001)
    for at in steps[:stride]:
        assert desk.awaited(at) == '' and desk.look(at)[0][0, 0, 0] == 3
    assert desk.awaited(steps[stride])
    desk.refuse('wrist', 'another size')  # nothing to wait for
    assert desk.awaited(steps[stride]) == ''
    assert reason_of(desk, steps[stride])[0] == REFUSED


def test_nothing_is_seen_where_nothing_is_promised() -> None:
    desk = PictureDesk()
    assert (desk.look(state(1)), desk.awaited(state(1)), desk.details()) == ((), '', {})
