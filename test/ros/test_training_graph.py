# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Training through the graph: it learns and leaves everything; deaths and Ctrl-C in between."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import resource
import signal
import time

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, Observer, observer
import pytest
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.nodes import qos
from rl_nodes.runs.record import read_run
from std_msgs.msg import Float32MultiArray, UInt8MultiArray

SETTINGS = """
algorithm: sac
learner: {hidden: [32, 32], batch_size: 64, buffer_size: 20000, learning_starts: 200}
loop: {publish_every_s: 0.5, evaluate_every_steps: 1500, evaluation_episodes: 3,
       confirmation_episodes: 3, checkpoint_every_s: 4.0, max_staleness_updates: 400}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / 'small.yaml'
    path.write_text(SETTINGS)
    return path


def train(settings: Path, run: Path, *more: str) -> tuple[str, ...]:
    return ('train', 'task:=reach', f'algorithm:={settings}', f'run_dir:={run}', *more)


def listen(seen: Observer) -> None:
    for topic in ('trainer/status', 'policy/status', 'robot/status', 'safety/state'):
        seen.listen(DiagnosticArray, topic, qos.LATCHED)
    seen.listen(UInt8MultiArray, 'policy/update', qos.LATCHED)
    seen.listen(Float32MultiArray, 'experience', qos.BATCH)


def until_learning(seen: Observer) -> None:
    seen.until(lambda: int(seen.values('trainer/status').get('policy_updates_in_use', 0)) > 50,
               'a policy with updates acting', 60.0)


def test_a_run_learns_evaluates_and_leaves_everything(settings: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / 'run'
    with graph(*train(settings, run_dir, 'time_budget_s:=15', 'target_success:=1.0')) as run:
        assert run.wait(90) == 0, run.output
    bundle = PolicyBundle.load(run_dir / 'policy.onnx')
    assert bundle.manifest.training_updates > 100
    assert bundle.manifest.evaluation is not None
    assert (run_dir / 'learning_curve.png').stat().st_size > 10_000
    assert 'gradient steps' in (run_dir / 'summary.md').read_text()
    assert list((run_dir / 'checkpoints').glob('*.pt'))
    assert list((run_dir / 'tensorboard').glob('events*'))
    assert list((run_dir / 'episodes').glob('*.mcap'))
    assert not list((run_dir / 'episodes').glob('*.partial'))
    rows = [json.loads(line) for line in (run_dir / 'metrics.jsonl').read_text().splitlines()]
    record = read_run(run_dir).record
    assert (record.task, record.robot, record.state) == ('reach', 'arm', 'finished')
    stale = [row['staleness'] for row in rows if 'staleness' in row]
    assert stale
    assert max(stale) <= 400, 'the acting policy is never older than configured'
    assert 'Traceback' not in run.output


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def leave_no_memory(pid: int) -> None:
    """Let a process have no more memory than it has."""
    used = int(Path(f'/proc/{pid}/statm').read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (used, used))


@pytest.mark.slow
@pytest.mark.parametrize(('end', 'how'), [
    (kill, 'killed by SIGKILL'), (leave_no_memory, 'exit code 1')])
def test_trainer_killed_control_goes_on_with_the_last_policy(
        settings: Path, tmp_path: Path, end: Callable[[int], None], how: str) -> None:
    """A9, A19."""
    with observer() as seen, graph(*train(settings, tmp_path / 'run')) as run:
        listen(seen)
        until_learning(seen)
        nodes = run.nodes()
        scores = {name: int(Path(f'/proc/{pid}/oom_score_adj').read_text())
                  for name, pid in nodes.items()}
        assert scores['trainer'] == max(scores.values()) > scores['robot_bridge']
        end(nodes['trainer'])
        seen.until(lambda: 'trainer' not in run.nodes(), 'its end')
        steps = int(seen.values('robot/status')['steps'])
        seen.until(lambda: int(seen.values('robot/status')['steps']) > steps + 1500, 'more steps')
        assert seen.values('safety/state')['mode'] in ('OK', 'LIMITING')
        run.interrupt()
        # A reader that was killed can leave the recorder, its only writer, stuck inside the
        # middleware; the launcher then ends it. What controls the robot must end in good order.
        run.wait(10)
        for node in ('robot_bridge-1', 'safety_monitor-2', 'policy_server-5'):
            assert f'{node}: stopped' in run.output, run.output
        assert f'trainer DIED ({how}): CONTROL GOES ON' in run.output


@pytest.mark.slow
def test_ctrl_c_while_learning_then_resume(settings: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / 'run'
    with observer() as seen, graph(*train(settings, run_dir)) as run:
        listen(seen)
        until_learning(seen)
        at = time.monotonic()
        run.interrupt()
        assert run.wait(10) == 0, run.output
        assert time.monotonic() - at < 3.0
    assert 'Traceback' not in run.output
    PolicyBundle.load(run_dir / 'policy.onnx')
    assert read_run(run_dir).record.state == 'interrupted'
    assert not list((run_dir / 'episodes').glob('*.partial'))
    with graph(*train(settings, run_dir, f'resume:={run_dir}', 'time_budget_s:=25')) as again:
        assert again.wait(90) == 0, again.output
    assert 'resumed at step' in again.output


@pytest.mark.slow
def test_a_damaged_policy_update_is_refused_and_the_old_policy_goes_on(
        settings: Path, tmp_path: Path) -> None:
    with observer() as seen, graph(*train(settings, tmp_path / 'run')):
        listen(seen)
        rogue = seen.node.create_publisher(UInt8MultiArray, 'policy/update', qos.LATCHED)
        until_learning(seen)
        damaged = seen.last('policy/update')
        data = bytearray(damaged.data)
        data[len(data) // 2] ^= 1
        damaged.data = bytes(data)
        rejected = int(seen.values('policy/status').get('updates_rejected', 0))
        rogue.publish(damaged)
        seen.until(lambda: int(seen.values('policy/status')['updates_rejected']) > rejected,
                   'the refusal')
        assert 'SHA-256' in seen.values('policy/status')['last_rejection']
        steps = int(seen.values('robot/status')['steps'])
        seen.until(lambda: int(seen.values('robot/status')['steps']) > steps + 100, 'more steps')


@pytest.mark.slow
def test_damaged_experience_is_refused_and_learning_goes_on(settings: Path,
                                                            tmp_path: Path) -> None:
    with observer() as seen, graph(*train(settings, tmp_path / 'run')):
        listen(seen)
        rogue = seen.node.create_publisher(Float32MultiArray, 'experience', qos.BATCH)
        until_learning(seen)
        batch = seen.last('experience')
        batch.data[0] = float('nan')
        refused = int(seen.values('trainer/status')['batches_refused'])
        rogue.publish(batch)
        batch.layout.dim[0].label = 'transitions/v0'
        rogue.publish(batch)
        rogue.publish(Float32MultiArray())
        seen.until(lambda: int(seen.values('trainer/status')['batches_refused']) >= refused + 3,
                   'three refusals')
        updates = int(seen.values('trainer/status')['policy_updates_in_use'])
        seen.until(lambda: int(seen.values('trainer/status')['policy_updates_in_use']) > updates,
                   'newer policies')
