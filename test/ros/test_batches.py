# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The policy server alone, answering several robots in one run of the policy."""

from pathlib import Path

from harness import make_bundle, make_recurrent_bundle, observer, refusal_of_policy_server
import numpy as np
import pytest
from rl_nodes.inference.actors import SingleActor
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions
from test_control_path import Asker, bundle_path, server, TASK  # noqa: F401 - a fixture

ROBOTS = ('robot_1', 'robot_2', 'robot_3')
CLOSE = {'rtol': 0, 'atol': 1e-5}


@pytest.mark.parametrize('make', [make_bundle, make_recurrent_bundle])
def test_each_robot_gets_the_command_that_it_gets_alone(make, tmp_path: Path) -> None:
    bundle = make(TASK.contract, seed=1)
    with observer() as seen, server(f'policy:={bundle.save(tmp_path / "policy.onnx")}',
                                    f'robots:={len(ROBOTS)}', 'batch:=true'):
        askers = [Asker(seen, name) for name in ROBOTS]
        alone = [SingleActor(PolicyRuntime(bundle), None) for _ in ROBOTS]
        for asker in askers:
            asker.connect()

        def ask(asking: list[Asker], bad: int | None = None) -> None:
            """Have states answered, all at once, but for one that is not finite."""
            states = [asker.state() for asker in asking]
            for number, (asker, state) in enumerate(zip(asking, states)):
                if number == bad:
                    state.position[2] = np.nan
                asker.tell(state)
            for number, (asker, state) in enumerate(zip(asking, states)):
                if number == bad:
                    continue
                seen.until(lambda: asker.answer(state.stamp_ns) is not None, 'an answer', 10.0)
                action = alone[askers.index(asker)].act(TASK.observer().observe(
                    state, asker.goal), state)
                msg = asker.answer(state.stamp_ns)
                assert msg.header.frame_id == bundle.label
                np.testing.assert_allclose(msg.position, TASK.command(state, action), **CLOSE)
                if asker is askers[0]:
                    again = len(seen.heard[asker.commands])
                    asker.tell(state)  # a state that comes again gets the same answer again
                    seen.until(lambda: len(seen.heard[asker.commands]) > again, 'the same')
                    assert seen.last(asker.commands) == msg

        for number in range(30):
            ask(askers)
            ask(askers, bad=number % len(ROBOTS))
            ask(askers[:2])  # the third is silent
        status = askers[0].status(
            lambda values: values['dropped'] == '30' and sum(
                int(values[f'{name}/answered']) for name in ROBOTS) == 210, 'all counted')
        assert status['control_path'] == 'python (robots are answered in batches)'
        assert 1 < int(status['batch_max']) <= len(ROBOTS), 'some came together'
        assert int(status['batches']) * float(status['batch_mean']) == pytest.approx(210, rel=0.01)
        assert 0 < float(status['inference_p50_ms']) <= float(status['total_p99_ms'])
        for name in ROBOTS:
            assert status[f'{name}/dropped_not_finite'] == '10'


def test_a_newer_policy_takes_over_between_two_batches(bundle_path: Path) -> None:  # noqa: F811
    with observer() as seen, server(f'policy:={bundle_path}', f'robots:={len(ROBOTS)}',
                                    'batch:=true'):
        askers = [Asker(seen, name) for name in ROBOTS]
        for asker in askers:
            asker.connect()
        for version in range(2, 8):
            askers[0].updates.publish(conversions.bundle_to_msg(
                make_bundle(TASK.contract, seed=version, version=version)))
            for _ in range(10):
                states = [asker.state() for asker in askers]
                for asker, state in zip(askers, states):
                    asker.tell(state)
                for asker, state in zip(askers, states):
                    seen.until(lambda: asker.answer(state.stamp_ns) is not None, 'an answer', 10.0)
        askers[0].status(lambda values: values['policy'] == 'untrained@7', 'the newest policy')
        for asker in askers:
            assert asker.ask(asker.state()).header.frame_id == 'untrained@7'
            labels = [msg.header.frame_id for _, msg in seen.heard[asker.commands]]
            assert labels == sorted(labels), 'never back to an older one'


@pytest.mark.parametrize(('parameters', 'message'), [
    (('batch:=true',), 'batch = true with robots = 1'),
    (('batch:=true', 'robots:=2', 'sampling:=stochastic'), 'robots that explore'),
    (('batch:=true', 'robots:=2', 'control_path:=cpp'), 'robots are answered in batches')])
def test_what_cannot_be_had_together_is_refused(
        bundle_path: Path, parameters: tuple[str, ...], message: str) -> None:  # noqa: F811
    assert message in refusal_of_policy_server(bundle_path, *parameters)
