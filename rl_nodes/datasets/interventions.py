# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a safety monitor did, in words; see ``nodes/recorded_interventions.py``."""

from collections.abc import Iterable
from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import NS
from rl_nodes.data.event_log import EVENTS
from rl_nodes.data.reader import Episode, PARTIAL_SUFFIX, read_episode
from rl_nodes.data.ring import EVENTS_FOLDER
from rl_nodes.nodes.recorded_interventions import BRIEF_S, Intervention, MonitorFiles
from rl_nodes.safety.verdict import Level

FOLDER = 'safety_events'    # below a run


@dataclass(frozen=True)
class SafetyReport:
    """
    All interventions in some files.

    :param title: robot and task.
    :param files: number of files read.
    :param span_s: from the first to the last message [s].
    :param began_ns: time of the first message, on the wall clock [ns].
    :param interventions: by time.
    :param left_out: interventions that no file was kept of, as the newest file says.
    :param notes: what a person should know besides.
    """

    title: str
    files: int
    span_s: float
    began_ns: int
    interventions: tuple[Intervention, ...]
    left_out: int
    notes: tuple[str, ...]

    @property
    def stops(self) -> list[Intervention]:
        """Return the interventions that stopped the robot."""
        return [found for found in self.interventions if found.level == Level.STOP]


def make_report(inputs: Iterable[str | Path]) -> SafetyReport:
    """
    Read event files, or recorded episodes.

    :param inputs: ``.mcap`` files, and folders that hold them; of a run its folder of events.
    :raises RecordingError: no file, a damaged one, or both kinds, which would count twice.
    """
    paths, notes = _files(inputs)
    episodes = sorted(map(read_episode, paths), key=_first_ns)
    kinds = {episode.metadata.get('episode') == EVENTS for episode in episodes}
    if len(kinds) > 1:
        raise RecordingError('event files and recorded episodes together would count twice; name '
                             'one kind')
    found: list[Intervention] = []
    began, last = _first_ns(episodes[0]), 0
    kept: dict[Path, MonitorFiles] = {}
    left_out: dict[Path, int] = {}
    for episode in episodes:
        folder = episode.path.parent
        last = max(last, kept.setdefault(folder, MonitorFiles()).add(episode))
        counts = json.loads(episode.metadata.get('interventions') or '{}')
        left_out[folder] = counts.get('left_out', left_out.get(folder, 0))
    for gathered in kept.values():
        found += gathered.interventions
    contract = episodes[0].contract
    return SafetyReport(
        f'{contract.robot} doing {contract.task}', len(episodes), (last - began) / NS, began,
        tuple(sorted(found, key=lambda one: one.at_ns)), sum(left_out.values()),
        tuple(notes))


def describe(report: SafetyReport) -> str:
    """Return the report as text."""
    lines = [f'{report.title}: {len(report.interventions)} interventions in {report.files} files '
             f'over {_duration(report.span_s)}']
    if report.left_out:
        lines.append(f'{report.left_out} more were counted only: no files were left for them')
    if report.interventions:
        lines += ['', f'{"check":<17}{"verdict":<9}{"times":>6}{"commands":>10}   worst excess']
        lines += [_row(group) for group in by_check(report.interventions)]
    stops = report.stops
    if stops:
        seen = [stop.stop_s for stop in stops if stop.stop_s is not None]
        judged = [stop.brief for stop in stops if stop.brief is not None]
        lines += ['', f'time to stop   {_percentiles_ms(seen)}; seen for {len(seen)} of '
                  f'{len(stops)} stops',
                  f'brief stops    {sum(judged)} of {len(judged)} whose cause can be followed was '
                  f'gone within {BRIEF_S:g} s (candidates for false stops)', '',
                  f'{"stop":>5}{"at [s]":>10}  {"to stop":<10}{"brief":<7}reason']
        lines += [_stop(number, stop, report.began_ns)
                  for number, stop in enumerate(stops, start=1)]
    return '\n'.join([*lines, *(['', *report.notes] if report.notes else [])])


def by_check(interventions: Iterable[Intervention]) -> list[list[Intervention]]:
    """Return interventions of the same level and check together, the gravest first."""
    groups: dict[tuple[Level, str], list[Intervention]] = {}
    for one in interventions:
        groups.setdefault((one.level, one.check), []).append(one)
    return sorted(groups.values(), key=lambda group: (-group[0].level, -len(group)))


def _row(group: list[Intervention]) -> str:
    worst = max((one.worst for one in group if one.worst is not None),
                key=lambda margin: margin.excess, default=None)
    margin = '–' if worst is None else (
        f'{worst.joint} asked for {worst.requested:.4g}, got {worst.executed:.4g}: '
        f'{worst.excess:.2g} of its limit')
    return (f'{group[0].check:<17}{group[0].level.name:<9}{len(group):>6}'
            f'{sum(one.decisions for one in group):>10}   {margin}')


def _stop(number: int, stop: Intervention, began_ns: int) -> str:
    lasted = 'not seen' if stop.stop_s is None else f'{stop.stop_s * 1e3:.0f} ms'
    brief = {None: '?', True: 'yes', False: 'no'}[stop.brief]
    return (f'{number:>5}{(stop.at_ns - began_ns) / NS:>10.2f}  {lasted:<10}{brief:<7}'
            f'{stop.check}: {stop.reason or "reason not recorded"}')


def _duration(seconds: float) -> str:
    return f'{seconds:.0f} s' if seconds < 600 else f'{seconds / 60:.0f} min'


def _percentiles_ms(values: list[float]) -> str:
    if not values:
        return 'not seen'
    p50, p99, most = np.percentile(values, [50, 99, 100]) * 1e3
    return f'p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {most:.0f} ms'


def _files(inputs: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Return (complete files, notes about unfinished ones)."""
    found: list[Path] = []
    notes: list[str] = []
    for given in map(Path, inputs):
        if not given.is_dir():
            found.append(given)
            continue
        folder = given / FOLDER if (given / FOLDER).is_dir() else given
        files = [path for path in sorted(folder.rglob('*.mcap'))  # no copies of what is in others
                 if path.parent == folder or path.parent.name != EVENTS_FOLDER]
        unfinished = sorted(folder.rglob(f'*.mcap{PARTIAL_SUFFIX}'))
        if not files:
            more = f', but {len(unfinished)} unfinished ones; "rl_nodes dataset repair ' \
                f'{unfinished[0].parent}" closes them' if unfinished else \
                '. A safety monitor writes one where it intervenes, in the folder ' \
                f'{FOLDER} of a run'
            raise RecordingError(f'{folder} holds no .mcap file{more}')
        found += files
        notes += [f'{path} is unfinished and left out; "rl_nodes dataset repair {path.parent}" '
                  'closes it' for path in unfinished]
    return found, notes


def _first_ns(episode: Episode) -> int:
    return next((message.log_time_ns for message in episode.messages()), 0)
