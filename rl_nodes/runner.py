# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Run a graph as processes where launch_ros is absent, with the manners of ``ros2 launch``.

Every node is a child in its own session, its output prefixed with ``[name-number]``. What the
end of a node means is decided by :func:`rl_nodes.graph.judge`. Ctrl-C ends the graph within 3 s:
SIGINT to all nodes, then SIGTERM, then SIGKILL. Nothing is ever restarted: whether motion may
begin again is for a person to decide.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
import json
import os
from pathlib import Path
import signal
import site
import sys
import time

import rl_nodes
from rl_nodes.console import Console, LineSplitter
from rl_nodes.core.errors import GraphError
from rl_nodes.core.locks import RunLock
from rl_nodes.graph import describe_returncode, Graph, judge, NodeSpec, stopped_on_request
from rl_nodes.graph_arguments import Value
from rl_nodes.orphan_guard import die_with_parent, OrphanGuard, SIGINT_GRACE_S, SIGTERM_GRACE_S

SIGKILL_GRACE_S = 0.3  # for the kernel to collect what was killed
STARTING_S = 30.0      # a node without signal handlers is taken to be importing for this long
KEPT_LINES = 15        # of a failed node, repeated when the graph ends
DRAIN_BYTES = 1 << 20  # read at most from the pipe of a node that has ended
UNSTOPPED = 1          # exit status when a node died, or had to be killed while stopping

Command = Callable[[NodeSpec, str], list[str]]


def run_graph(graph: Graph) -> int:
    """
    Run a graph until its work is done, an essential node fails, or Ctrl-C.

    :return: exit status: 0 for a normal end and for Ctrl-C.
    :raises GraphError: a graph is already running in this domain and namespace, or the run
        directory cannot be written.
    """
    with RunLock('graph', graph.domain_id, graph.namespace, graph.description):
        prepare(graph)
        return Runner(graph, Console()).run()


def prepare(graph: Graph) -> None:
    """Make the run directory and write down there what is run; GraphError where that fails."""
    record = {
        'graph': graph.name, 'rl_nodes': rl_nodes.__version__, 'domain_id': graph.domain_id,
        'namespace': graph.namespace, 'arguments': graph.arguments,
        'nodes': {spec.path: spec.parameters for spec in graph.nodes}}
    try:
        graph.run_directory.mkdir(parents=True, exist_ok=True)
        path = graph.run_directory / f'{graph.name}.json'
        path.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    except OSError as error:
        raise GraphError(f'run_dir:={graph.run_directory} cannot be written: '
                         f'{error.strerror}') from None


def node_command(spec: NodeSpec, namespace: str) -> list[str]:
    """Return the command line of a node, with its parameters as typed YAML scalars."""
    command = [sys.executable, '-m', f'rl_nodes.nodes.{spec.executable}', '--ros-args',
               '-r', f'__node:={spec.name}']
    if spec.full_namespace(namespace) != '/':
        command += ['-r', f'__ns:={spec.full_namespace(namespace)}']
    for old, new in spec.remappings(namespace):
        command += ['-r', f'{old}:={new}']
    for name, value in spec.parameters.items():
        command += ['-p', f'{name}:={yaml_scalar(value)}']
    return command


def yaml_scalar(value: Value) -> str:
    """
    Return a value such that rcl's YAML parser gives back the same type.

    JSON is YAML; the quotes keep '' and '123' text, and a float keeps its point or exponent.
    """
    return json.dumps(value, ensure_ascii=False)


def node_environment(environ: Mapping[str, str], graph: Graph, colour: bool) -> dict[str, str]:
    """Return the environment of a node: this one, made fit for a Python that runs elsewhere."""
    result = dict(environ)
    result['PYTHONUNBUFFERED'] = '1'
    # The line's prefix names the node already.
    result.setdefault('RCUTILS_CONSOLE_OUTPUT_FORMAT', '[{severity}] {message}')
    result.setdefault('ROS_LOG_DIR', str(graph.run_directory / 'log'))
    if colour:
        result.setdefault('RCUTILS_COLORIZED_OUTPUT', '1')
    # A source checkout that was started by "python -m" is not installed anywhere.
    home = str(Path(rl_nodes.__file__).resolve().parents[1])
    if home not in [*site.getsitepackages(), site.getusersitepackages()]:
        rest = [p for p in result.get('PYTHONPATH', '').split(os.pathsep) if p and p != home]
        result['PYTHONPATH'] = os.pathsep.join([home, *rest])
    # The rclpy wheels restart the interpreter once with the path of their libraries and leave a
    # mark that this is done. Mark and path come together or not at all, and only from this prefix.
    libraries = result.get('LD_LIBRARY_PATH', '').split(os.pathsep)
    if str(Path(sys.prefix) / 'lib') not in libraries:
        result.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None)
    return result


class _Child:
    """One running node: its process, the pipe it writes to and its last lines."""

    def __init__(self, spec: NodeSpec, label: str, console: Console) -> None:
        self.spec = spec
        self.label = label
        self.process: asyncio.subprocess.Process | None = None
        self.kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._console = console
        self._splitter = LineSplitter()
        self._pipe = -1
        self._started_s = time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else -1

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def starting(self) -> bool:
        """Return whether nothing is there to put in order: our nodes catch SIGTERM early on."""
        young = time.monotonic() - self._started_s < STARTING_S
        return young and not _catches(self.pid, signal.SIGTERM)

    async def start(self, command: list[str], environ: dict[str, str]) -> None:
        self._pipe, write_end = os.pipe()
        os.set_blocking(self._pipe, False)
        parent = os.getpid()
        try:
            # The pipe is ours and not asyncio's: waiting for the process then never waits for
            # a grandchild that still holds the pipe.
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=write_end, stderr=write_end,
                env=environ, start_new_session=True, preexec_fn=lambda: die_with_parent(parent))
        finally:
            os.close(write_end)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)

    def close(self) -> None:
        """Take what is left in the pipe and close it."""
        if self._pipe < 0:
            return
        for _ in range(DRAIN_BYTES >> 16):
            if not self._read():
                break
        asyncio.get_running_loop().remove_reader(self._pipe)
        os.close(self._pipe)
        self._pipe = -1
        self._show(self._splitter.finish())

    def _read(self) -> bool:
        """Show what the node has written; return whether there may be more."""
        try:
            data = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._pipe)
            return False
        self._show(self._splitter.feed(data, time.monotonic()))
        return True

    def _show(self, lines: list[str]) -> None:
        for line in lines:
            self.kept.append(line)
            self._console.line(self.label, line)


class Runner:
    """
    Supervise the processes of one graph.

    :param graph: what to run.
    :param console: where output goes.
    :param command: makes a node's command line from its spec and the namespace.
    """

    def __init__(self, graph: Graph, console: Console, command: Command = node_command) -> None:
        self._graph = graph
        self._console = console
        self._command = command
        self._children: list[_Child] = []
        self._exit_code = 0
        self._stopping = False
        self._culprit: _Child | None = None
        self._died: list[str] = []  # without ending the graph

    def run(self) -> int:
        """Run the graph to its end and return the exit status."""
        guard = OrphanGuard()  # forks, so before the console's thread
        self._console.start()
        try:
            asyncio.run(self._run(guard))
        finally:
            guard.close()
            self._console.close()
        return self._exit_code

    async def _run(self, guard: OrphanGuard) -> None:
        loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)
        self._say(f'{self._graph.name} runs in ROS domain {self._graph.domain_id}, namespace '
                  f'{self._graph.namespace}; all files go to {self._graph.run_directory}')
        environ = node_environment(os.environ, self._graph, self._console.colour)
        watchers = []
        for position, spec in enumerate(self._graph.nodes, 1):
            if self._stopping:
                break
            child = _Child(spec, f'{spec.path}-{position}', self._console)
            try:
                await child.start(self._command(spec, self._graph.namespace), environ)
            except OSError as error:
                self._stop(UNSTOPPED, f'{spec.path} cannot be started: {error}', child)
                break
            guard.add(child.pid)
            self._children.append(child)
            self._say(f'{child.label}: process started with pid {child.pid}')
            watchers.append(asyncio.create_task(self._watch(child, guard)))
        while not self._stopping and not all(watcher.done() for watcher in watchers):
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), 0.5)
            except TimeoutError:
                if self._console.broken:
                    self._stop(UNSTOPPED, 'nobody can read the output any more: shutting down')
        self._stopping = True
        await self._end_all(watchers)
        self._summary()

    async def _watch(self, child: _Child, guard: OrphanGuard) -> None:
        """Wait for a node's end and draw the consequence."""
        assert child.process is not None  # noqa: S101 - for the type checker
        returncode = await child.process.wait()
        _signal_group(child.pid, signal.SIGKILL)  # workers that it left behind
        guard.remove(child.pid)
        child.close()
        if not self._stopping:
            verdict = judge(child.spec, returncode)
            failed = returncode != 0 or verdict.exit_code != 0
            if verdict.shutdown:
                self._stop(verdict.exit_code, verdict.message, child if failed else None)
            else:
                self._died += [child.spec.path] if failed else []
                self._say(verdict.message, alarm=True)
        elif stopped_on_request(returncode):
            self._say(f'{child.label}: stopped')
        else:
            self._say(f'{child.label}: failed while stopping '
                      f'({describe_returncode(returncode)})', alarm=True)
            self._exit_code = self._exit_code or UNSTOPPED
        self._wake.set()

    async def _end_all(self, watchers: list[asyncio.Task[None]]) -> None:
        """SIGINT to every node; SIGTERM and then SIGKILL to the groups of those that stay."""
        for child in self._children:
            if child.alive:
                # An import that is interrupted ends in a traceback; SIGTERM ends it quietly.
                _signal_process(child.pid, signal.SIGTERM if child.starting else signal.SIGINT)
        steps = ((SIGINT_GRACE_S, signal.SIGTERM), (SIGTERM_GRACE_S, signal.SIGKILL),
                 (SIGKILL_GRACE_S, None))
        for grace_s, number in steps:
            if watchers:
                await asyncio.wait(watchers, timeout=grace_s)
            for child in self._children:
                if child.alive and number is not None:
                    self._say(f'{child.label}: does not stop, sending {number.name}', alarm=True)
                    _signal_group(child.pid, number)
        for child in self._children:
            child.close()

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stopping:
            self._say(f'{name}: already stopping, done within 3 s')
        else:
            before = f'; died before: {", ".join(self._died)}' if self._died else ''
            self._stop(UNSTOPPED if self._died else 0, f'{name}: stopping all nodes{before}')

    def _stop(self, exit_code: int, reason: str, culprit: _Child | None = None) -> None:
        """Begin the end of the graph; the first reason counts."""
        if self._stopping:
            return
        self._stopping = True
        self._exit_code = exit_code
        self._culprit = culprit
        self._say(reason, alarm=exit_code != 0)
        self._wake.set()

    def _summary(self) -> None:
        if self._culprit is not None:
            self._say(f'last lines of {self._culprit.label}, which ended the graph:', alarm=True)
            for line in self._culprit.kept:
                self._console.line(self._culprit.label, line)
        self._say(f'ended with exit code {self._exit_code}; files are in '
                  f'{self._graph.run_directory}', alarm=self._exit_code != 0)

    def _say(self, message: str, alarm: bool = False) -> None:
        self._console.line('runner', message, alarm)


def _catches(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    try:
        status = Path(f'/proc/{pid}/status').read_text(encoding='utf-8', errors='replace')
        mask = status.partition('SigCgt:')[2].split(maxsplit=1)[0]
    except (OSError, IndexError):
        return True
    return bool(int(mask, 16) >> (number - 1) & 1)


def _signal_process(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
