"""Programs of this folder, each in a process with as many CPU devices as it asks for."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
TESTS = Path(__file__).parents[1]
SECONDS = 270


def start(name, devices, *arguments):
    """Start a program; its facts come as JSON on the last line of its output."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS / name), *map(str, arguments)],
        env={
            **os.environ,
            "XLA_FLAGS": flags,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def facts(*processes):
    """Wait for programs that run together, and return the facts of each."""
    try:
        outputs = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs):
        assert process.returncode == 0, errors[-4000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def selected(request, argument):
    """The values of an argument in those tests of a module that are to run."""
    chosen = (item.callspec.params for item in request.session.items if item.path == request.path)
    return sorted({params[argument] for params in chosen})
