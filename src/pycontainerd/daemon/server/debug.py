"""What the debug socket answers: where every thread and task is, the command line, numbers of the interpreter, the log level."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.lib import debug_http
from pycontainerd.lib.debug_http import Answer
from pycontainerd.lib.log import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainerd.daemon.server.http import Handler
    from pycontainerd.lib.log import Logger


LOG_LEVEL: Final = "/debug/log-level"


def changes(log: Logger) -> dict[str, Handler]:
    """What a PUT changes: `/debug/log-level?level=debug`."""

    async def set_level(query: Mapping[str, str]) -> Answer:
        wanted = query.get("level", "")
        if wanted not in LEVELS:
            return Answer(f'not a valid logrus Level: "{wanted}"\n'.encode(), debug_http.TEXT, 400)
        log.set_level(wanted)
        log.log(log.level_name, "log level changed", now=log.level_name)
        return Answer(f"{log.level_name}\n".encode())

    return {LOG_LEVEL: set_level}


def routes(argv: list[str], log: Logger) -> dict[str, Handler]:
    """The table for an HttpServer."""

    async def level(query: Mapping[str, str]) -> Answer:
        del query
        return Answer(f"{log.level_name}\n".encode())

    async def index(query: Mapping[str, str]) -> Answer:
        del query
        return Answer(debug_http.INDEX + b"log level, PUT ?level=NAME sets it  /debug/log-level\n")

    async def stacks(query: Mapping[str, str]) -> Answer:
        del query
        return Answer(format_stacks().encode())

    async def command_line(query: Mapping[str, str]) -> Answer:
        del query
        return Answer("\0".join(argv).encode())

    async def variables(query: Mapping[str, str]) -> Answer:
        del query
        document = {"cmdline": argv, **_numbers()}
        return Answer(json.dumps(document, indent=1).encode(), debug_http.JSON)

    async def no_profile(query: Mapping[str, str]) -> Answer:
        del query
        return debug_http.NO_PROFILE

    return {
        "/debug/pprof/": index,
        "/debug/pprof/goroutine": stacks,
        "/debug/pprof/cmdline": command_line,
        "/debug/vars": variables,
        LOG_LEVEL: level,
        **{f"/debug/pprof/{name}": no_profile for name in debug_http.PROFILES},
    }


def format_stacks() -> str:
    """Every thread's and every task's stack. Call it on the event loop's thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 -- the documented way to all stacks
    ]
    for task in asyncio.all_tasks():
        lines = [
            f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
            for frame in task.get_stack()
        ]
        parts.append("\n".join([f"task {task.get_name()} {task.get_coro()!r}:", *lines]))
    return "\n".join(parts) + "\n"


def _numbers() -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "python": sys.version.split()[0],
        "pid": os.getpid(),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "open_fds": len(os.listdir("/proc/self/fd")),
        "max_rss_bytes": usage.ru_maxrss * 1024,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "gc": [dict(generation) for generation in gc.get_stats()],
    }
