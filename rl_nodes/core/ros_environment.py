# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The environment variables that ROS 2 reads, checked before ROS 2 reads them.

ROS 2 itself takes several misspelt values in silence: ``ROS_SECURITY_ENABLE=1`` runs without
security and ``ROS_DOMAIN_ID=010`` is octal. Every function here takes the environment as an
argument and needs no ROS.
"""

from collections.abc import Mapping, MutableMapping
import os
from pathlib import Path
import re

from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import GraphError
from rl_nodes.core.resources import share_directory

MAX_DOMAIN_ID = 232  # greater ids have no valid UDP port in the DDS port formula

# Above this the ports of a domain lie in Linux's ephemeral range and may be taken.
MAX_COMFORTABLE_DOMAIN_ID = 101

RANGE = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
TRANSPORTS = 'FASTDDS_BUILTIN_TRANSPORTS'
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'

def domain_id(environ: Mapping[str, str]) -> int:
    """
    Return the ROS domain, 0 where ``ROS_DOMAIN_ID`` is unset or empty.

    :raises GraphError: not a plain decimal number from 0 to 232.
    """
    text = environ.get('ROS_DOMAIN_ID', '')
    if not text:
        return 0
    if not re.fullmatch(r'0|[1-9][0-9]{0,2}', text) or int(text) > MAX_DOMAIN_ID:
        raise GraphError(
            f'ROS_DOMAIN_ID is {text!r}; expected a whole number from 0 to {MAX_DOMAIN_ID} '
            'without sign, space or leading zero. Set it with "export ROS_DOMAIN_ID=7", or unset '
            'it for domain 0.')
    return int(text)


def prepare(environ: MutableMapping[str, str]) -> int:
    """
    Check all variables, let Fast DDS share no memory, and return the ROS domain.

    A process that is killed inside a lock in shared memory keeps it, and whoever comes to it next
    stands still: the bridge of a robot because a recorder died. UDP has no such lock and is about
    as fast for messages of this size. What the user has set stays.

    :raises GraphError: a value that ROS 2 would misread, with the value to write instead.
    :raises ConfigError: the package is installed without its data.
    """
    domain = check(environ)
    if shares_memory(environ) and not environ.get(TRANSPORTS) and not environ.get(PROFILES):
        environ[TRANSPORTS] = 'UDPv4?sockets_size=4MB'  # for a burst of pictures
        local = environ.get('ROS_LOCALHOST_ONLY') == '1' or environ.get(RANGE) == 'LOCALHOST'
        if local and not environ.get('ROS_STATIC_PEERS'):
            # For this range ROS 2 adds shared memory whatever the variable above says, so the
            # range is left to Fast DDS, which reads the same one from the file.
            environ.pop('ROS_LOCALHOST_ONLY', None)
            environ[RANGE] = 'SYSTEM_DEFAULT'
            environ[PROFILES] = str(share_directory() / 'config' / 'fastdds_localhost.xml')
    return domain


def shares_memory(environ: Mapping[str, str]) -> bool:
    """Return whether processes of this environment would share memory: Fast DDS as it comes."""
    fast_dds = 'rmw_fastrtps_cpp'
    installed = middlewares(environ)
    default = fast_dds if fast_dds in installed or not installed else installed[0]
    return (environ.get('RMW_IMPLEMENTATION') or default).startswith('rmw_fastrtps')


def check(environ: Mapping[str, str]) -> int:
    """
    Check all variables and return the ROS domain.

    :raises GraphError: a value that ROS 2 would misread, with the value to write instead.
    """
    check_security(environ)
    check_middleware(environ)
    return domain_id(environ)


def check_security(environ: Mapping[str, str]) -> None:
    """
    Refuse the settings of DDS-Security that would run unsecured without a word.

    :raises GraphError: says what to write.
    """
    enable = environ.get('ROS_SECURITY_ENABLE', '')
    strategy = environ.get('ROS_SECURITY_STRATEGY', '')
    if enable not in ('', 'true', 'false'):
        raise GraphError(
            f'ROS_SECURITY_ENABLE is {enable!r}; ROS 2 would run WITHOUT security. Write exactly '
            'ROS_SECURITY_ENABLE=true for security, or unset it (or =false) to do without.')
    if strategy not in ('', 'Enforce', 'Permissive'):
        raise GraphError(
            f'ROS_SECURITY_STRATEGY is {strategy!r}; ROS 2 would take it for Permissive. Write '
            'exactly ROS_SECURITY_STRATEGY=Enforce, or =Permissive where nodes without keys may '
            'run unsecured.')
    if enable == 'true' and not strategy:
        raise GraphError(
            'ROS_SECURITY_ENABLE is true but ROS_SECURITY_STRATEGY is unset: nodes without keys '
            'would run unsecured in silence. Write ROS_SECURITY_STRATEGY=Enforce, or =Permissive '
            'where that is wanted.')


def check_middleware(environ: Mapping[str, str]) -> None:
    """
    Refuse an ``RMW_IMPLEMENTATION`` that is visibly not installed.

    Looks for ``librmw_*.so`` where the loader would; silent where no middleware is found at all,
    because then nothing is known.

    :raises GraphError: lists what is installed.
    """
    wanted = environ.get('RMW_IMPLEMENTATION', '')
    if not wanted:
        return
    installed = middlewares(environ)
    if installed and wanted not in installed:
        raise GraphError(
            f'RMW_IMPLEMENTATION is {wanted!r}{suggestion(wanted, installed)}; installed here: '
            f'{", ".join(installed)}. Unset it for the default.')


def middlewares(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the ROS middlewares on the loader's path, sorted."""
    found = set()
    for folder in environ.get('LD_LIBRARY_PATH', '').split(os.pathsep):
        if folder and Path(folder).is_dir():
            found |= {path.name[3:-3] for path in Path(folder).glob('librmw_*.so')}
    return sorted(name for name in found if re.fullmatch(r'rmw_(\w+_cpp|connextdds)', name)
                  and '__' not in name and not name.endswith('_shared_cpp'))
