# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The runner with real processes.

The nodes are tiny scripts; the runner itself is a process too, because it is about signals. Tests
wait for lines of output, never for seconds.
"""

import json
import os
from pathlib import Path
import selectors
import signal
import subprocess
import sys
import time

import pytest
from rl_nodes.core.errors import GraphError
from rl_nodes.core.locks import run_directory, RunLock
from rl_nodes.graph import Graph, NodeSpec
from rl_nodes.runner import node_command, node_environment, prepare, yaml_scalar

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 20.0  # far more than anything here takes; a bound against hanging for ever
CTRL_C_S = 3.0  # what a user is promised

# The runner as a program: argv is the graph's nodes as JSON and the run directory.
RUNNER = """
import json, os, sys
from pathlib import Path
from rl_nodes import runner
from rl_nodes.core.errors import RlNodesError
from rl_nodes.graph import Graph, NodeSpec

nodes = json.loads(sys.argv[1])
scripts = {name: script for name, script, *_ in nodes}
specs = tuple(NodeSpec(name, name, {}, *rest) for name, script, *rest in nodes)
graph = Graph('train', {'task': 'reach'}, '/test', int(os.environ['ROS_DOMAIN_ID']),
              Path(sys.argv[2]), specs)
runner.node_command = lambda spec, namespace: [sys.executable, '-c', scripts[spec.name]]
runner.Runner.__init__.__defaults__ = (runner.node_command,)
try:
    sys.exit(runner.run_graph(graph))
except RlNodesError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
"""

# Like our nodes, they catch SIGTERM as soon as they have something to put in order.
READY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
print('ready', os.getpid(), flush=True)
"""
FOREVER = f"""
try:
    {READY.strip().replace(chr(10), chr(10) + '    ')}
    time.sleep(60)
except KeyboardInterrupt:
    print('closed', flush=True)
"""
DEAF = READY.replace('print', """
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda number, frame: None)
print""") + 'while True: time.sleep(60)'
DEAF_TO_SIGINT = READY.replace('print', """
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
print""") + 'time.sleep(60)'


class Running:
    """A runner process whose output is read line by line."""

    def __init__(self, nodes, folder, **environ):
        self.process = subprocess.Popen(
            [sys.executable, '-c', RUNNER, json.dumps(nodes), str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': str(ROOT), **environ})
        os.set_blocking(self.process.stdout.fileno(), False)
        self.lines = []
        self._rest = ''

    def wait_for(self, *texts):
        """Read on until each text has been in some line; return those lines."""
        deadline = time.monotonic() + LIMIT_S
        found = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while len(found) < len(texts):
                for line in self.lines:
                    for text in texts:
                        if text in line:
                            found.setdefault(text, line)
                if len(found) == len(texts):
                    break
                assert time.monotonic() < deadline, f'no {set(texts) - set(found)}: {self.lines}'
                selector.select(0.5)
                data = self.process.stdout.read()
                assert data != b'', f'ended without {set(texts) - set(found)}: {self.lines}'
                *complete, self._rest = (self._rest + (data or b'').decode()).split('\n')
                self.lines += complete
        return [found[text] for text in texts]

    def pids(self, *labels):
        lines = self.wait_for(*(f'[{label}] ready' for label in labels))
        return [int(line.split()[-1]) for line in lines]

    def finish(self):
        """Wait for the end; return (exit status, all output)."""
        os.set_blocking(self.process.stdout.fileno(), True)
        rest, _ = self.process.communicate(timeout=LIMIT_S)
        text = '\n'.join([*self.lines, self._rest + rest.decode()])
        return self.process.returncode, text

    def interrupt(self, number=signal.SIGINT):
        """Send a stop signal; return (exit status, output, seconds until the end)."""
        start = time.monotonic()
        self.process.send_signal(number)
        status, text = self.finish()
        return status, text, time.monotonic() - start


@pytest.fixture
def run(tmp_path):
    running = []

    def start(*nodes, **environ):
        running.append(Running(nodes, tmp_path / 'run', **environ))
        return running[-1]

    yield start
    for runner in running:
        if runner.process.poll() is None:
            runner.process.terminate()
            runner.finish()


def alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def wait_until_gone(pids):
    deadline = time.monotonic() + LIMIT_S
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, [pid for pid in pids if alive(pid)]
        time.sleep(0.02)


# --- Ctrl-C -----------------------------------------------------------------------------------

@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_everything_in_time_with_status_0(run, number):
    runner = run(('bridge', FOREVER, 'fail', 'shutdown'), ('trainer', FOREVER))
    pids = runner.pids('bridge-1', 'trainer-2')
    status, text, took_s = runner.interrupt(number)
    assert status == 0, text
    assert took_s < CTRL_C_S
    assert '[bridge-1] closed' in text
    assert '[trainer-2] closed' in text
    assert not any(alive(pid) for pid in pids)


def test_the_child_that_ignores_sigint_gets_sigterm(run):
    runner = run(('deaf', DEAF_TO_SIGINT), ('trainer', FOREVER))
    runner.pids('deaf-1', 'trainer-2')
    status, text, took_s = runner.interrupt()
    assert status == 0, text
    assert took_s < CTRL_C_S
    assert 'deaf-1: does not stop, sending SIGTERM' in text


def test_the_child_that_ignores_everything_is_killed_and_that_is_a_failure(run):
    runner = run(('deaf', DEAF), ('trainer', FOREVER))
    pids = runner.pids('deaf-1', 'trainer-2')
    status, text, took_s = runner.interrupt()
    assert status == 1, text
    assert took_s < CTRL_C_S
    assert 'deaf-1: failed while stopping (killed by SIGKILL)' in text
    assert not any(alive(pid) for pid in pids)


def test_impatient_ctrl_c_changes_nothing(run):
    runner = run(('deaf', DEAF_TO_SIGINT), ('trainer', FOREVER))
    runner.pids('deaf-1', 'trainer-2')
    runner.process.send_signal(signal.SIGINT)
    runner.wait_for('SIGINT: stopping all nodes')
    for _ in range(3):
        runner.process.send_signal(signal.SIGINT)
    runner.wait_for('already stopping')
    status, text = runner.finish()
    assert status == 0, text
    assert 'Traceback' not in text


@pytest.mark.parametrize('number', range(1, 7))
def test_ctrl_c_while_starting(run, number):
    runner = run(*[(f'node{i}', FOREVER) for i in range(1, 7)])
    runner.wait_for(f'node{number}-{number}: process started')
    status, text, took_s = runner.interrupt()
    assert status == 0, text
    assert took_s < CTRL_C_S
    assert 'Traceback' not in text


def test_a_program_that_knows_no_sigterm_is_ended_too(run):
    runner = run(('plain', "import time; print('ready', flush=True); time.sleep(60)"))
    runner.wait_for('[plain-1] ready')
    status, text, took_s = runner.interrupt()
    assert status == 0, text
    assert took_s < CTRL_C_S


# --- the end of a node ------------------------------------------------------------------------

def test_essential_node_that_dies_ends_everything_and_is_named(run):
    dying = FOREVER.replace("print('closed', flush=True)",
                            "print('the cable is out', file=sys.stderr)\n    sys.exit(7)")
    runner = run(('trainer', FOREVER), ('bridge', dying, 'fail', 'shutdown'))
    bridge, _ = runner.pids('bridge-2', 'trainer-1')
    os.kill(bridge, signal.SIGTERM)
    status, text = runner.finish()
    assert status == 7, text
    assert 'bridge died (exit code 7): shutting everything down' in text
    assert text.count('[bridge-2] the cable is out') == 2, 'once live and once at the end'
    assert '[trainer-1] closed' in text


def test_essential_node_that_is_killed(run):
    runner = run(('trainer', FOREVER), ('monitor', FOREVER, 'fail', 'shutdown'))
    pid, = runner.pids('monitor-2')
    os.kill(pid, signal.SIGKILL)
    status, text = runner.finish()
    assert status == 128 + signal.SIGKILL, text
    assert 'monitor died (killed by SIGKILL)' in text


def test_finished_work_ends_the_graph_with_status_0(run):
    runner = run(('bridge', FOREVER, 'fail', 'shutdown'),
                 ('trainer', READY + 'sys.exit(0)', 'shutdown', 'continue'))
    status, text = runner.finish()
    assert status == 0, text
    assert 'trainer has finished' in text


def test_control_goes_on_without_the_trainer(run):
    runner = run(('bridge', FOREVER, 'fail', 'shutdown'),
                 ('trainer', FOREVER, 'shutdown', 'continue'))
    bridge, trainer = runner.pids('bridge-1', 'trainer-2')
    os.kill(trainer, signal.SIGKILL)
    runner.wait_for('trainer DIED (killed by SIGKILL): CONTROL GOES ON WITHOUT IT')
    assert alive(bridge)
    status, text, _ = runner.interrupt()
    assert status == 1, 'or a script would take the training for done'
    assert 'stopping all nodes; died before: trainer' in text


def test_a_node_that_refuses_to_start_ends_everything_with_status_2(run):
    refusing = READY + "print('no such task'); sys.exit(2)"
    runner = run(('bridge', FOREVER, 'fail', 'shutdown'), ('recorder', refusing))
    status, text = runner.finish()
    assert status == 2, text
    assert 'recorder refused to start' in text
    assert text.count('[recorder-2] no such task') == 2


def test_a_program_that_does_not_exist_is_a_failure(tmp_path, ros_domain_id):
    from rl_nodes.console import Console
    from rl_nodes.runner import Runner

    graph = Graph('train', {}, '/', ros_domain_id, tmp_path, (NodeSpec('a', 'a', {}),))
    reader, writer = os.pipe()
    runner = Runner(graph, Console(writer), lambda spec, namespace: ['/nowhere/program'])
    assert runner.run() == 1
    os.close(writer)
    with os.fdopen(reader) as output:
        assert 'a cannot be started' in output.read()


# --- output -----------------------------------------------------------------------------------

def test_output_is_prefixed_and_complete(run):
    script = READY + ("sys.stderr.write('to stderr\\n'); sys.stderr.flush()\n"
                      "sys.stdout.buffer.write(b'bytes \\xff\\n'); sys.stdout.flush()\n"
                      "print('unfinished', end='')")
    status, text = run(('talker', script, 'shutdown')).finish()
    assert status == 0, text
    assert '[talker-1] to stderr' in text
    assert '[talker-1] bytes \ufffd' in text
    assert '[talker-1] unfinished' in text
    assert '\033[' not in text, 'colours only on a terminal'


def test_a_reader_that_stops_reading_blocks_no_node(run, tmp_path):
    done = tmp_path / 'done'
    flood = READY + (f"for _ in range(40000): print('x' * 200)\n"
                     f"open({str(done)!r}, 'w').close(); time.sleep(60)")
    runner = run(('talker', flood), ('trainer', FOREVER))
    deadline = time.monotonic() + LIMIT_S
    while not done.exists():  # 8 MB have been said though nobody has read a byte
        assert time.monotonic() < deadline
        time.sleep(0.02)
    status, text, took_s = runner.interrupt()
    assert (status, took_s < CTRL_C_S) == (0, True), text[-2000:]


def test_a_reader_that_goes_away_ends_the_graph(run):
    chatty = READY + "while True:\n    print('still here', flush=True); time.sleep(0.05)"
    runner = run(('talker', chatty))
    pids = runner.pids('talker-1')
    runner.process.stdout.close()
    assert runner.process.wait(LIMIT_S) == 1
    wait_until_gone(pids)


def test_workers_of_a_node_do_not_outlive_it(run):
    parent = READY + ("import subprocess\n"
                      "worker = subprocess.Popen([sys.executable, '-c', 'import time; "
                      "time.sleep(60)'])\nprint('worker', worker.pid, flush=True)\nsys.exit(0)")
    runner = run(('parent', parent), ('other', FOREVER))
    line, = runner.wait_for('[parent-1] worker')
    runner.wait_for('parent ended')
    wait_until_gone([int(line.split()[-1])])
    assert runner.interrupt()[0] == 0


# --- the runner's own death -------------------------------------------------------------------

def test_no_orphans_after_the_runner_is_killed(run):
    runner = run(('good', FOREVER), ('deaf', DEAF))
    pids = runner.pids('good-1', 'deaf-2')
    runner.process.kill()
    runner.process.wait()
    wait_until_gone(pids)


# --- one graph per domain and namespace -------------------------------------------------------

def test_a_second_graph_is_refused_at_once_and_the_first_goes_on(run, ros_domain_id):
    first = run(('bridge', FOREVER, 'fail', 'shutdown'))
    pid, = first.pids('bridge-1')
    second = run(('bridge', FOREVER, 'fail', 'shutdown'))
    start = time.monotonic()
    status, text = second.finish()
    assert status == 2, text
    assert time.monotonic() - start < 3.0  # an interpreter on a busy machine, not the refusal
    for part in (f'process {first.process.pid}', f'domain {ros_domain_id}', "'/test'",
                 'rl_nodes launch train task:=reach', 'ROS_DOMAIN_ID', 'namespace:='):
        assert part in text
    assert alive(pid)
    assert first.interrupt()[0] == 0
    third = run(('bridge', FOREVER))
    third.pids('bridge-1')
    assert third.interrupt()[0] == 0


def test_lock_is_per_role_domain_and_namespace(ros_domain_id):
    with RunLock('graph', ros_domain_id, '/a', 'first'):
        with pytest.raises(GraphError, match='runs "first"'):
            RunLock('graph', ros_domain_id, 'a/', 'second').acquire()
        for role, domain, namespace in (('trainer', ros_domain_id, '/a'),
                                        ('graph', 200, '/a'), ('graph', ros_domain_id, '/')):
            with RunLock(role, domain, namespace, 'another'):
                pass
    with RunLock('graph', ros_domain_id, '/a', 'again'):
        pass


def test_lock_survives_what_an_older_holder_left(ros_domain_id):
    lock = RunLock('graph', ros_domain_id, '/left', 'new')
    (run_directory() / f'graph-domain{ros_domain_id}-left.lock').write_text('{"pid": 1')
    with lock, pytest.raises(GraphError, match='runs "new"'):
        RunLock('graph', ros_domain_id, '/left', 'newer').acquire()


def test_foreign_lock_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_RUNTIME_DIR', str(tmp_path))
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'rl_nodes').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(GraphError, match='not a folder of this user'):
        run_directory()


# --- command lines ----------------------------------------------------------------------------

@pytest.mark.parametrize(('value', 'text'), [
    (True, 'true'), (3, '3'), (300.0, '300.0'), (1e-05, '1e-05'), ('', '""'), ('123', '"123"'),
    ('a: b', '"a: b"'), ('say "ü"', '"say \\"ü\\""')])
def test_parameters_keep_their_type(value, text):
    assert yaml_scalar(value) == text


def test_rcl_reads_parameters_back_with_their_type(tmp_path):
    parameters = {'flag': True, 'whole': 3, 'real': 300.0, 'small': 1e-05, 'empty': '',
                  'digits': '123', 'tricky': "a: 'b' # ü \\ \"c\"", 'yes': 'yes'}
    script = (
        'import json, rclpy\n'
        'rclpy.init()\n'
        'node = rclpy.create_node("x", automatically_declare_parameters_from_overrides=True)\n'
        f'found = {{name: node.get_parameter(name).value for name in {list(parameters)!r}}}\n'
        'print(json.dumps([node.get_fully_qualified_name(), found]))\n'
        'node.destroy_node(); rclpy.try_shutdown()\n')
    spec = NodeSpec('x', 'given_name', parameters)
    command = node_command(spec, '/lab/one')
    assert command[:3] == [sys.executable, '-m', 'rl_nodes.nodes.x']
    graph = Graph('train', {}, '/lab/one', 0, tmp_path, (spec,))
    result = subprocess.run([sys.executable, '-c', script, *command[3:]], text=True, check=True,
                            capture_output=True, env=node_environment(os.environ, graph, False))
    name, found = json.loads(result.stdout)
    assert name == '/lab/one/given_name'
    assert found == parameters
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in parameters.items()}


def test_environment_of_another_prefix_is_not_half_inherited(tmp_path):
    graph = Graph('train', {}, '/', 0, tmp_path, ())
    mark, own = '_ROS_WHEELS_BOOTSTRAP_COMPLETE', str(Path(sys.prefix) / 'lib')
    assert mark not in node_environment({mark: '1'}, graph, False)
    assert mark not in node_environment({mark: '1', 'LD_LIBRARY_PATH': '/x'}, graph, False)
    assert mark in node_environment({mark: '1', 'LD_LIBRARY_PATH': f'/x:{own}'}, graph, False)


def test_run_directory_says_what_ran(tmp_path):
    graph = Graph('train', {'task': 'reach'}, '/', 3, tmp_path / 'deep' / 'run',
                  (NodeSpec('a', 'a', {'seed': 1}),))
    prepare(graph)
    record = json.loads((graph.run_directory / 'train.json').read_text())
    assert record['nodes'] == {'a': {'seed': 1}}
    assert record['domain_id'] == 3


def test_run_directory_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(GraphError, match='cannot be written'):
        prepare(Graph('train', {}, '/', 0, tmp_path / 'file' / 'run', ()))
