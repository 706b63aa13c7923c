"""Starts the hosts a widget runs in (JupyterLab, Notebook 7, marimo) for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 20


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(scratch: Path, threads: int | None) -> dict[str, str]:
    """Keep the settings and the runtime files of the person who runs the tests out of this."""
    settings = scratch / "settings"
    news = settings / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True, exist_ok=True)
    # The question about news lies over the lower right corner and swallows clicks.
    (news / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "JUPYTER_DATA_DIR": str(scratch / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(scratch / "workspaces"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "XDG_CONFIG_HOME": str(scratch / "xdg"),
        # Notebooks of the tests import the stand-in predictors from here.
        "PYTHONPATH": os.pathsep.join(
            part for part in (str(HERE), os.environ.get("PYTHONPATH", "")) if part
        ),
    }
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    # Kernels choose their own plotting backend; pytest's marks mean nothing to them.
    for name in ("MPLBACKEND", "PYTEST_CURRENT_TEST", "COVERAGE_PROCESS_START"):
        environment.pop(name, None)
    return environment


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


@contextlib.contextmanager
def running(
    command: list[str], health_url: str, scratch: Path, threads: int | None = 1
) -> Iterator[None]:
    """Run a server until the block ends; raises with its output if it does not come up.

    One thread per kernel keeps tests quick on busy machines, where threads wait for each other.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    log = scratch / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env=_environment(scratch, threads),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _answers(health_url):
                if process.poll() is not None or time.monotonic() > deadline:
                    text = log.read_text(errors="replace")[-4000:]
                    raise RuntimeError(f"{command[:4]} did not come up:\n{text}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                # Its own session, so this reaches forgotten kernels and nothing else.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(STOP_TIMEOUT_S)


@contextlib.contextmanager
def jupyter(
    root: Path, scratch: Path, *, classic: bool = False, threads: int | None = 1
) -> Iterator[str]:
    """Serve `root` with JupyterLab (or Notebook 7) and give its address."""
    port = free_port()
    module = "notebook" if classic else "jupyterlab"
    application = "JupyterNotebookApp" if classic else "LabApp"
    command = [
        *(sys.executable, "-m", module),
        *("--allow-root", "--no-browser", "--ServerApp.ip=127.0.0.1"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *("--IdentityProvider.token=", f"--ServerApp.root_dir={root}"),
        f"--{application}.expose_app_in_browser=True",
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/api/status", scratch, threads):
        yield url


@contextlib.contextmanager
def marimo(program: Path, scratch: Path) -> Iterator[str]:
    """Serve a marimo notebook as an application and give its address."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "marimo", "-q", "run", str(program)),
        *("--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port)),
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/health", scratch):
        yield url
