# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Breaks the safety core on purpose and counts how often its tests notice.

    python test/unit/safety/mutate.py [--sample 200] [--seed 0] [module ...]

One change at a time: a comparison, an operator, a number, a truth value, min for max, a condition
turned round, a call left out. Messages and annotations stay. Each mutant meets the tests of its
module in a process of its own; one that passes them all has survived. One that never ends is
noticed, as by the time-out of pytest, here by processor time. Prints survivors with file and
line, and the score: noticed / tried. Some survivors cannot be noticed because they change nothing
(equivalent mutants); none is left out for that.

So that all can be tried within minutes, what is changed in a function is exchanged in place, in a
process that has collected the tests already, and the test that noticed the last mutant comes
first. For what is changed outside of functions everything is imported anew.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
from itertools import chain
import os
from pathlib import Path
import random
import resource
import sys
import types
from typing import NamedTuple

import hypothesis
import msgspec  # noqa: F401 - loaded once, before the forks
import numpy as np  # noqa: F401
import pytest
import rl_nodes.control.controllers
import rl_nodes.core.meshes  # noqa: F401

HERE = Path(__file__).parent
CORE = HERE.parents[2] / 'rl_nodes' / 'safety'
CPU_S = 40  # for the tests of one mutant, which may never end
TESTS = {
    'capsules': ['test_capsules.py', 'test_geometry.py'], 'geometry': ['test_geometry.py'],
    'sources': ['test_arbiter.py'], 'estop': ['test_estop.py'], 'events': ['test_events.py'],
    **dict.fromkeys(('budget', 'conformal', 'distribution', 'guard', 'guard_file'), [
        'test_budget.py', 'test_conformal.py', 'test_guard.py']),
    **dict.fromkeys(('fallback', 'homing', 'supervisor', 'verdict', 'watchdog'), [
        'test_supervisor.py', 'test_fallback.py', 'test_homing.py', 'test_estop.py',
        'test_guard.py', 'test_budget.py']),
    **dict.fromkeys(('checks', 'gate', 'limits', 'motion'), [
        'test_checks.py', 'test_motion.py', 'test_supervisor.py', 'test_geometry.py',
        'test_fuzz.py::test_narrowed_limits',
        'test_fuzz.py::test_commands_that_follow_each_other'])}
OPERATORS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
NAMES = {'min': 'max', 'max': 'min', 'minimum': 'maximum', 'maximum': 'minimum', 'all': 'any',
         'any': 'all', 'argmax': 'argmin', 'argmin': 'argmax', 'sin': 'cos'}


class Mutant(NamedTuple):
    """
    A changed module.

    :param inside: whether the change is inside a function.
    :param change: where it is and what, for people.
    """

    module: str
    tree: ast.Module
    inside: bool
    change: str


def places(tree):
    """Yield (node, what is done to it) for every change, in order of the source."""
    skipped = set()
    for node in ast.walk(tree):
        for field in ('annotation', 'returns', 'decorator_list'):
            kept = getattr(node, field, None) or []
            for part in kept if isinstance(kept, list) else [kept]:
                skipped.update(map(id, ast.walk(part)))
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, ast.walk(node)))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Compare):
            yield from ((node, f'ops {k}') for k in range(len(node.ops)))
        elif isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)) and (
                type(node.op) in OPERATORS):
            yield node, 'op'
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            yield node, 'operand'
        elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            yield node, 'value'
        elif isinstance(node, ast.Name) and node.id in NAMES:
            yield node, 'name'
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield node, 'name'
        elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
            yield node, 'test'
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, 'leave out'


def mutated(module, tree, index):
    """Return the mutant."""
    tree = copy.deepcopy(tree)
    node, what = sorted_places(tree)[index]
    inside = any(node is part for function in ast.walk(tree)
                 if isinstance(function, ast.FunctionDef)
                 for statement in function.body for part in ast.walk(statement))
    before = ast.unparse(node).splitlines()[0]
    if what.startswith('ops'):
        k = int(what.split()[1])
        node.ops[k] = OPERATORS[type(node.ops[k])]()
    elif what == 'op':
        node.op = OPERATORS[type(node.op)]()
    elif what == 'operand':
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif what == 'value':
        value = node.value
        node.value = not value if isinstance(value, bool) else (value * 2 if value else 1)
    elif what == 'name':
        field = 'id' if isinstance(node, ast.Name) else 'attr'
        setattr(node, field, NAMES[getattr(node, field)])
    elif what == 'test':
        node.test = ast.UnaryOp(ast.Not(), node.test)
    else:
        node.value = ast.Constant(None)
    after = ast.unparse(node).splitlines()[0]
    return Mutant(module, ast.fix_missing_locations(tree), inside,
                  f'{module}.py:{node.lineno}: {before}  ->  {after}')


def sorted_places(tree):
    """Return all places by line and column."""
    return sorted(places(tree), key=lambda place: (place[0].lineno, place[0].col_offset, place[1]))


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a tree instead of its file."""

    def __init__(self, name, tree, path) -> None:
        self._name, self._tree, self._path = name, tree, path

    def find_spec(self, name, path, target=None):
        if name == self._name:
            return importlib.machinery.ModuleSpec(name, self, origin=str(self._path))
        return None

    def exec_module(self, module):
        exec(compile(self._tree, str(self._path), 'exec'), module.__dict__)  # our own source


def options(tests):
    """Return what pytest is told."""
    return ['-x', '-q', '-s', '--no-header', '--no-summary', '-p', 'no:cacheprovider',
            '-p', 'no:randomly', '-m', 'not soak', *(str(HERE / test) for test in tests)]


def as_mutant() -> None:
    """Let a forked process end some time, and say nothing."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    with open(os.devnull, 'w') as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)


def settled() -> None:
    """Let hypothesis draw the same examples for every mutant."""
    hypothesis.settings.register_profile('mutants', database=None, derandomize=True)
    hypothesis.settings.load_profile('mutants')


def noticed(mutant) -> bool:
    """Return whether the tests of a module fail with it imported from a tree."""
    child = os.fork()
    if not child:
        as_mutant()
        settled()
        sys.meta_path.insert(0, Replaced(f'rl_nodes.safety.{mutant.module}', mutant.tree,
                                         CORE / f'{mutant.module}.py'))
        os._exit(int(pytest.main(options(TESTS[mutant.module]))))
    _, status = os.waitpid(child, 0)
    return status != 0


class InPlace:
    """
    A plugin of pytest: tries mutants one after the other instead of running the tests once.

    :param mutants: to be tried; the changes are inside of functions.
    :param found: file descriptor that gets one byte for each, 1 where it was noticed.
    """

    def __init__(self, mutants, found) -> None:
        self._mutants, self._found = mutants, found

    def pytest_runtestloop(self, session):
        order = list(session.items)
        for mutant in self._mutants:
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                as_mutant()
                exchange(mutant)
                os._exit(first_failure(session, order, writer))
            os.close(writer)
            _, status = os.waitpid(child, 0)
            if which := os.read(reader, 8):
                order.insert(0, order.pop(int(which)))
            os.close(reader)
            os.write(self._found, bytes([status != 0]))
        return True


def first_failure(session, items, writer) -> int:
    """Run tests until one fails; tell its place and return whether there is one."""
    for place, (item, following) in enumerate(zip(items, [*items[1:], None])):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            os.write(writer, str(place).encode())
            return 1
    return 0


def exchange(mutant) -> None:
    """Give the functions of an imported module the code of a mutant."""
    path = str(CORE / f'{mutant.module}.py')
    module = sys.modules[f'rl_nodes.safety.{mutant.module}']
    codes = {}

    def collect(code) -> None:
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                codes[inner.co_qualname] = inner
                collect(inner)
    collect(compile(mutant.tree, path, 'exec'))
    owned = [value for value in vars(module).values()
             if getattr(value, '__module__', '') == module.__name__]
    for owner in owned:
        for value in [owner, *(vars(owner).values() if isinstance(owner, type) else ())]:
            getattr(value, 'cache_clear', bool)()
            for function in (value, getattr(value, 'fget', None),
                             getattr(value, '__wrapped__', None)):
                if isinstance(function, types.FunctionType) and (
                        function.__code__.co_filename == path):
                    function.__code__ = codes[function.__qualname__]


def noticed_in_place(mutants, tests):
    """Yield for each of some mutants with the same tests whether these fail."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        settled()
        os._exit(int(pytest.main(options(tests), [InPlace(mutants, writer)])))
    os.close(writer)
    for _ in mutants:
        answer = os.read(reader, 1)
        if not answer:
            raise SystemExit(f'{", ".join(tests)} cannot be collected')
        yield bool(answer[0])
    os.close(reader)
    os.waitpid(child, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('modules', nargs='*', help=', '.join(TESTS))
    parser.add_argument('--sample', type=int, default=0, help='so many only, drawn evenly')
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    trees = {name: ast.parse((CORE / f'{name}.py').read_text(encoding='utf-8'))
             for name in arguments.modules or TESTS}
    jobs = [(name, k) for name, tree in trees.items() for k in range(len(sorted_places(tree)))]
    total = len(jobs)
    if arguments.sample:
        jobs = sorted(random.Random(arguments.seed).sample(jobs, min(arguments.sample, total)))
    score = {name: [0, 0] for name in trees}
    groups = {}
    for name in trees:
        groups.setdefault(tuple(TESTS[name]), []).append(name)
    for tests, names in groups.items():
        mutants = [mutated(name, trees[name], k) for name, k in jobs if name in names]
        inside = [mutant for mutant in mutants if mutant.inside]
        untouched = Mutant(names[0], trees[names[0]], True, '')
        found = noticed_in_place([untouched, *inside], tests)
        if next(found):
            print(f'{", ".join(tests)} fail though nothing is changed')
            return 1
        for mutant, killed in chain(zip(inside, found), (
                (mutant, noticed(mutant)) for mutant in mutants if not mutant.inside)):
            score[mutant.module][0] += killed
            score[mutant.module][1] += 1
            if not killed:
                print(mutant.change, flush=True)
        for name in names:
            print(f'{name:12s} {score[name][0]:4d} of {score[name][1]:4d}', flush=True)
    killed, tried = (sum(column) for column in zip(*score.values()))
    print(f'noticed {killed} of {tried} ({100 * killed / tried:.1f} %); {total} mutants in all')
    return 0


if __name__ == '__main__':
    sys.exit(main())
