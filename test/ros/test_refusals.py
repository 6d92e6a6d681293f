# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Bad input: one paragraph, a status other than zero, within five seconds, nothing left behind."""

from pathlib import Path
import time

from harness import GraphProcess, make_bundle
import msgspec
import pytest
from rl_nodes.inference.bundle import manifest_path, PolicyBundle
from rl_nodes.tasks import load_task


def refused(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Run a graph that must refuse to start and return what it says."""
    at = time.monotonic()
    process = GraphProcess(*arguments, env=env)
    try:
        status = process.wait(20)
    finally:
        process.end()
    assert status != 0
    assert time.monotonic() - at < 5.0
    assert 'Traceback' not in process.output
    assert process.output.startswith('error: ')
    assert 'process started' not in process.output
    assert process.nodes() == {}
    return process.output


@pytest.mark.parametrize(('arguments', 'parts'), [
    (('train', 'task:=raech'), ["'raech'", "did you mean 'reach'", 'cartpole_balance']),
    (('train', 'robot:=robby'), ["'robby'", 'available: a1, arm']),
    (('train', 'algorithm:=scar'), ["'scar'", 'sac']),
    (('train', 'tsk:=reach'), ['tsk', 'task']),
    (('train', 'robot:=cartpole'), ['tool_link']),
    (('train', 'stepping:=warp'), ['warp', 'lockstep', 'realtime']),
    (('train', 'time_budget_s:=soon'), ['soon', 'number']),
    (('train', 'resume:=nowhere'), ['nowhere']),
    (('deploy',), ['policy']),
    (('deploy', 'policy:=none.onnx'), ['none.onnx', 'no such file']),
    (('fly',), ['fly', 'train']),
])
def test_wrong_arguments(arguments: tuple[str, ...], parts: list[str]) -> None:
    said = refused(*arguments)
    for part in parts:
        assert part in said


@pytest.mark.parametrize('text', ['type: reach\nepisode_s: [', 'type: reach\nepisode_s: -1'])
def test_malformed_task_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    assert 'mine.yaml' in refused('train', f'task:={path}')


@pytest.mark.parametrize(('name', 'value'), [
    ('ROS_DOMAIN_ID', 'abc'), ('ROS_DOMAIN_ID', '233'), ('ROS_SECURITY_ENABLE', '1'),
    ('ROS_SECURITY_STRATEGY', 'enforce')])
def test_wrong_environment(name: str, value: str) -> None:
    said = refused('train', 'task:=reach', env={name: value})
    assert name in said
    assert value in said


def test_corrupt_policy(policy_path: Path, tmp_path: Path) -> None:
    copy = tmp_path / 'policy.onnx'
    data = bytearray(policy_path.read_bytes())
    data[100] ^= 0xFF
    copy.write_bytes(data)
    manifest_path(copy).write_bytes(manifest_path(policy_path).read_bytes())
    assert 'SHA-256' in refused('deploy', f'policy:={copy}')
    copy.write_bytes(policy_path.read_bytes()[:-10])
    assert 'truncated' in refused('deploy', f'policy:={copy}')
    manifest_path(copy).unlink()
    assert 'manifest' in refused('deploy', f'policy:={copy}')


def test_policy_of_another_contract_is_refused_with_the_differences(tmp_path: Path) -> None:
    contract = load_task('arm', 'reach').contract
    joints = (msgspec.structs.replace(contract.joints[0], velocity=9.0), *contract.joints[1:])
    other = msgspec.structs.replace(contract, rate_hz=100.0, joints=joints)
    path = make_bundle(other, gain=1.0).save(tmp_path / 'policy.onnx')
    said = refused('deploy', f'policy:={path}')
    assert 'rate_hz: ' in said
    assert 'joints[0].velocity' in said


def test_run_directory_in_use_is_refused_and_kept(policy_path: Path, tmp_path: Path) -> None:
    (tmp_path / 'precious').write_text('data')
    assert 'not empty' in refused('deploy', f'policy:={policy_path}', f'run_dir:={tmp_path}')
    assert (tmp_path / 'precious').read_text() == 'data'
    assert PolicyBundle.load(policy_path)
