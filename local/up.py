"""``cfm up``: runs a stack in this process until it is told to stop, or in one of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
import traceback
from collections.abc import Callable
from types import FrameType

import click

from cfm_core.errors import CfmError
from local import reports, state
from local.directory import default_directory
from local.servers.process import StartError
from local.stack import OpenError, PortError, Stack
from local.state import DirectoryError, RunningError

_FAILED, _NOT_ALLOWED, _CONFLICT = 1, 4, 6
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def foreground(stack: Stack, seed: bool) -> int:
    """Run a stack until Ctrl-C or SIGTERM; gives the exit code."""
    return _run(stack, seed, lambda stack: click.echo(_announcement(stack) + "\n\nCtrl-C stops it."))


def detached(stack: Stack, seed: bool) -> int:
    """Start a stack whose supervisor goes on in the background; gives the exit code when it is ready, or has failed."""
    reader, writer = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        os.close(reader)
        _become_daemon(writer, stack, seed)
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            told = pipe.read()
    except KeyboardInterrupt:
        os.kill(supervisor, signal.SIGTERM)
        os.waitpid(supervisor, 0)
        return _FAILED
    code, text = json.loads(told) if told else (_FAILED, "the supervisor ended without a word")
    if code == 0:
        click.echo(text)
    else:
        _say(text)
    return int(code)


def _become_daemon(writer: int, stack: Stack, seed: bool) -> None:
    """Be the supervisor in the background, from the fork to the end of the process."""
    code = _FAILED
    pipe = os.fdopen(writer, "w", encoding="utf-8")

    def tell(code: int, text: str) -> None:
        if not pipe.closed:
            with pipe:
                json.dump([code, text], pipe)

    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        code = _run(stack, seed, lambda stack: tell(0, _announcement(stack)), lambda text, code: tell(code, text))
    except Exception:
        stack.report(traceback.format_exc())
        tell(_FAILED, traceback.format_exc())
    finally:
        os._exit(code)


def _say(text: str) -> None:
    click.echo(f"cfm: {text}", err=True)


def _run(
    stack: Stack,
    seed: bool,
    ready: Callable[[Stack], None],
    failed: Callable[[str, int], None] = lambda text, code: _say(text),
) -> int:
    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # once is enough; what follows is the orderly stop
        raise KeyboardInterrupt

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, interrupt)
    try:
        stack.start()
        if seed:
            from local import seeding

            seeding.apply(stack.url, stack.token() if stack.auth else "")
        ready(stack)
        threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except (StartError, CfmError) as error:
        code = _code(error)
        failed(str(error), code)
        return code
    finally:
        stack.stop()
    return 0


def _code(error: Exception) -> int:
    match error:
        case PortError() | RunningError():
            return _CONFLICT
        case DirectoryError() | OpenError():
            return _NOT_ALLOWED
        case _:
            return _FAILED


def _announcement(stack: Stack) -> str:
    """What runs where, and what to try next."""
    found = state.running(stack.data)
    assert found is not None
    cfm = shlex.quote(os.environ.get("CFM_COMMAND", "cfm"))
    option = "" if stack.data == default_directory().resolve() else f" --data {shlex.quote(str(stack.data))}"
    lines = [
        reports.as_table(found, reports.report(found, look=False)),
        "",
        f"API   {stack.url}/api/v1alpha1",
        f"Data  {stack.data}",
        "",
        "Try:",
        f'  eval "$({cfm} env{option})"',
        '  curl -H "Authorization: Bearer $CFM_TOKEN" "$CFM_URL/api/v1alpha1/tenants"',
        f"  {cfm} status{option}; {cfm} logs -f trigger{option}; {cfm} down{option}",
    ]
    return "\n".join(lines)
