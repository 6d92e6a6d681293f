# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``rl_nodes dataset ...`` does: each verb returns a text for people and an exit status."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct
from rl_nodes.core.config import suggestion
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, ContractError, RecordingError
from rl_nodes.core.timing import NS
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.inspection import inspect, open_episodes
from rl_nodes.data.reader import Episode
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.datasets import folders, relabel
from rl_nodes.datasets.formats import find_format, Source
from rl_nodes.nodes.pictures import recorded_pictures
from rl_nodes.nodes.recorded_states import require_same_robot
from rl_nodes.nodes.recorded_transitions import recorded_episodes, task_of
from rl_nodes.tasks import load_task

Answer = tuple[str, int]
_NOT_NEGATIVE = Annotated[float, Meta(ge=0)]


class DatasetOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Arguments of ``rl_nodes dataset``.

    :param output: new folder or file
    :param robot: that the data have to be of, together with task
    :param task: relabel: whose rewards are computed; otherwise what the data have to be of
    :param shares: split: name of each new folder and its share, as in train=0.8,test=0.2
    :param by: split: entry of the metadata that names the folder, as in success or reason
    :param seed: split: of the draw
    :param start_s: trim: since the start of the episode [s]
    :param end_s: trim: since the start of the episode [s]; 0 for its end
    :param start_step: trim: instead of start_s
    :param end_step: trim: instead of end_s
    :param format: export: store, npz, parquet, lerobot, minari or robomimic; import: store,
        lerobot or minari
    :param pictures: export to lerobot: with the recorded pictures
    """

    output: str = ''
    robot: str = ''
    task: str = ''
    shares: str = ''
    by: str = ''
    seed: int = 0
    start_s: _NOT_NEGATIVE = 0.0
    end_s: _NOT_NEGATIVE = 0.0
    start_step: Annotated[int, Meta(ge=0)] = 0
    end_step: Annotated[int, Meta(ge=0)] = 0
    format: str = ''
    pictures: bool = True


class Verb(NamedTuple):
    """
    One verb.

    :param run: does it, given inputs and options.
    :param takes: options that mean something to it.
    :param help: one line.
    """

    run: Callable[[list[str], DatasetOptions], Answer]
    takes: tuple[str, ...]
    help: str


def run(verb: str, inputs: list[str], options: DatasetOptions, given: Sequence[str]) -> Answer:
    """
    Do what a command line says.

    :param inputs: files and folders.
    :param given: names of the options that were written.
    :raises ConfigError: an unknown verb, or an option that means nothing to it.
    """
    if verb not in VERBS:
        raise ConfigError(f'dataset {verb!r}{suggestion(verb, VERBS)}; expected one of '
                          f'{", ".join(VERBS)}')
    takes = VERBS[verb].takes
    for name in given:
        if name not in takes:
            raise ConfigError(f'dataset {verb} takes no {name}:=...{suggestion(name, takes)}; it '
                              f'takes {", ".join(takes) or "files and folders only"}')
    if not inputs:
        raise ConfigError(f'dataset {verb} of what? name files or folders')
    return VERBS[verb].run(inputs, options)


def _check(inputs: list[str], options: DatasetOptions) -> Answer:
    lines, bad = [], 0
    findings = inspect(inputs, _expected(options))
    for finding in findings:
        bad += bool(finding.faults)
        lines += [f'BAD   {finding.path}: {fault}' for fault in finding.faults]
        lines += [f'note  {finding.path}: {note}' for note in finding.notes]
    lines.append(f'{len(findings)} files, {bad} of them cannot be used')
    return '\n'.join(lines), 1 if bad else 0


def _repair(inputs: list[str], options: DatasetOptions) -> Answer:
    done = folders.repair_all(inputs)
    lines = [f'{found.original}: {found.note}; {found.messages} messages, {found.lost_bytes} '
             'bytes lost' for found in done]
    lost = sum(found.path is None and found.note != 'was empty, removed' for found in done)
    return '\n'.join([*lines, f'{len(done)} files looked after, {lost} could not be repaired']), \
        1 if lost else 0


def _info(inputs: list[str], options: DatasetOptions) -> Answer:
    episodes = [finding.episode for finding in inspect(inputs) if finding.episode is not None]
    if not episodes:
        raise RecordingError(f'no readable episode in {", ".join(inputs)}; "rl_nodes dataset '
                             'check" says why')
    return folders.describe(episodes), 0


def _merge(inputs: list[str], options: DatasetOptions) -> Answer:
    episodes, left_out = open_episodes(inputs, _expected(options))
    copies, same = folders.merge(episodes, _output(options))
    return '\n'.join([*left_out, *same, *(f'{copy.path} is {copy.source}' for copy in copies),
                      f'{options.output}: {len(copies)} episodes']), 0


def _split(inputs: list[str], options: DatasetOptions) -> Answer:
    if bool(options.shares) == bool(options.by):
        raise ConfigError('dataset split takes either shares:=train=0.8,test=0.2 or by:=success')
    episodes, left_out = open_episodes(inputs, _expected(options))
    output = _output(options)
    groups = folders.split_by_metadata(episodes, output, options.by) if options.by else \
        folders.split_by_share(episodes, output, _shares(options.shares), options.seed)
    return '\n'.join([*left_out, *(f'{output / name}: {len(copies)} episodes'
                                   for name, copies in groups.items())]), 0


def _trim(inputs: list[str], options: DatasetOptions) -> Answer:
    episodes, left_out = open_episodes(inputs, _expected(options))
    if (options.start_s or options.end_s) and (options.start_step or options.end_step):
        raise ConfigError('dataset trim takes start_s, end_s or start_step, end_step, not both')

    def cut(episode: Episode, final: Path) -> None:
        step_s = episode.period_ns / NS
        start = options.start_s or (options.start_step - 0.5) * step_s * bool(options.start_step)
        end = options.end_s or (options.end_step + 0.5) * step_s * bool(options.end_step)
        if end and end <= start:
            raise ConfigError(f'dataset trim: the end {end:g} s is not after {start:g} s')
        relabel.trim(episode, final, round(start * NS), round(end * NS) if end else 1 << 62)

    paths = folders.write_each(episodes, _output(options), cut)
    return '\n'.join([*left_out, f'{options.output}: {len(paths)} episodes']), 0


def _relabel(inputs: list[str], options: DatasetOptions) -> Answer:
    episodes, left_out = open_episodes(inputs)
    lines = list(left_out)

    def write(episode: Episode, final: Path) -> None:
        if options.task:
            task = task_of(episode, task=options.task, same=False)
            require_same_robot(episode, task, 'relabelled as')
        else:
            task = task_of(episode)
        done = relabel.relabel(episode, task, final)
        (old, won, reason), (new, wins, end) = done.before, done.after
        lines.append(f'{done.path}: {done.changed} rewards changed, return {old:.4g} -> '
                     f'{new:.4g}, success {won} -> {wins}, {reason} -> {end}')

    folders.write_each(episodes, _output(options), write)
    return '\n'.join(lines), 0


def _export(inputs: list[str], options: DatasetOptions) -> Answer:
    form, module = find_format(options.format)
    output = _output(options, form.suffix)
    episodes, left_out = open_episodes(inputs, _expected(options))
    task = task_of(episodes[0], options.robot, options.task)
    by_name = {episode.path.name: episode for episode in episodes}
    if len(by_name) < len(episodes):
        raise RecordingError('files of the same name from several folders; merge them first')
    pictures = None
    if options.pictures and any(recorded_pictures(episode) for episode in episodes):
        def pictures(name: str) -> dict:
            return recorded_pictures(by_name[name])
        if options.format != 'lerobot':
            left_out.append('pictures left out: only lerobot has them')
    recorded = recorded_episodes(episodes, left_out, options.robot, options.task)
    count = module.write(output, Source(task.contract, recorded, pictures))
    return '\n'.join([*left_out, f'{output}: {count} transitions']), 0


def _import(inputs: list[str], options: DatasetOptions) -> Answer:
    if len(inputs) != 1:
        raise ConfigError(f'dataset import takes one data set, got {", ".join(inputs)}')
    _, module = find_format(options.format, reading=True)
    source = module.read(Path(inputs[0]))
    expected = _expected(options)
    lines = []
    if expected is not None and source.contract is not None:
        expected.require(source.contract, 'what is asked for', inputs[0])
    if source.contract is None:
        lines.append(f'{inputs[0]} names no contract: that its vectors mean what those of '
                     f'{expected.task if expected else "a task"} do is for you to know')

    def fitting() -> Iterator[RecordedEpisode]:
        for episode in source.episodes:
            if expected is not None:
                _require_sizes(episode.batch, expected, inputs[0])
            if len(episode):
                yield episode

    output = Path(options.output)
    form, writer = find_format('npz' if output.suffix == '.npz' else 'store')
    # Sizes prove nothing about meaning, so a contract is only kept, never given.
    count = writer.write(_output(options, form.suffix), Source(source.contract, fitting()))
    return '\n'.join([*lines, f'{output}: {count} transitions']), 0


def _report(inputs: list[str], options: DatasetOptions) -> Answer:
    from rl_nodes.datasets.report import describe, make_report

    episodes, notes = open_episodes(inputs, _expected(options))
    notes += [f'{finding.path}: {note}' for finding in inspect(
        [episode.path for episode in episodes]) for note in finding.notes]
    task = task_of(episodes[0], options.robot, options.task)
    recorded = list(recorded_episodes(episodes, notes, options.robot, options.task))
    report = make_report(episodes, recorded, task, notes)
    text = describe(report)
    if options.output:
        from rl_nodes.datasets.report_page import write_page
        text += f'\n\n{write_page(report, _output(options, ".html"))}'
    return text, 0


def _expected(options: DatasetOptions) -> Contract | None:
    """Return the contract that ``robot:=... task:=...`` ask for; None where they do not."""
    if bool(options.robot) != bool(options.task):
        raise ConfigError('robot:=... and task:=... come together or not at all')
    return load_task(options.robot, options.task).contract if options.robot else None


def _output(options: DatasetOptions, suffix: str = '') -> Path:
    if not options.output or Path(options.output).suffix != suffix and suffix:
        raise ConfigError(f'output:={options.output}: expected a new '
                          + (f'{suffix} file' if suffix else 'folder'))
    return Path(options.output)


def _shares(text: str) -> dict[str, float]:
    try:
        pairs = [part.partition('=') for part in text.split(',')]
        shares = {name: float(value) for name, _, value in pairs}
    except ValueError:
        shares = {}
    if not shares or not all(name.isidentifier() for name in shares):
        raise ConfigError(f'shares:={text}: expected name=share,... as in train=0.8,test=0.2')
    return shares


def _require_sizes(batch: TransitionBatch, expected: Contract, name: str) -> None:
    for column, spec in (('observation', expected.observation), ('action', expected.action)):
        shape = getattr(batch, column).shape[1:]
        if shape != spec.shape:
            raise ContractError(f'{name}: {column} has shape {shape}, {expected.task} with '
                                f'{expected.robot} has {spec.shape}')


_WHICH = ('robot', 'task')
VERBS = {
    'check': Verb(_check, _WHICH, 'name what is wrong with each file; exit status 1 if anything'),
    'repair': Verb(_repair, (), 'close unfinished files, save what damaged ones hold'),
    'info': Verb(_info, (), 'show what was recorded'),
    'merge': Verb(_merge, ('output', *_WHICH), 'copy episodes into one folder'),
    'split': Verb(_split, ('output', 'shares', 'by', 'seed', *_WHICH),
                  'copy episodes into several folders'),
    'trim': Verb(_trim, ('output', 'start_s', 'end_s', 'start_step', 'end_step', *_WHICH),
                 'write a part of each episode'),
    'relabel': Verb(_relabel, ('output', 'task'), 'compute rewards, ends and success anew'),
    'export': Verb(_export, ('output', 'format', 'pictures', *_WHICH),
                   'write transitions in the form of another tool'),
    'import': Verb(_import, ('output', 'format', *_WHICH),
                   'make a store or .npz file of the data set of another tool'),
    'report': Verb(_report, ('output', *_WHICH), 'say what the data are like; output:=page.html')}


def help_text() -> str:
    """Return a line per verb."""
    return '\n'.join(f'  {name:<9}{verb.help}' + (
        f'\n{"":<11}{" ".join(f"{take}:=..." for take in verb.takes)}' if verb.takes else '')
        for name, verb in VERBS.items())
