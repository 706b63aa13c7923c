"""Drives a notebook page: cells, kernel, theme. What is inside the widget is in `view`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from browser.view import CAT_SIZE, View

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, WebError

TIMEOUT_MS = 120_000

_PANEL = "window.jupyterapp.shell.currentWidget"
_READY = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  return !!panel && panel.context?.isReady && panel.sessionContext?.isReady
    && panel.sessionContext.session?.kernel?.connectionStatus === 'connected';
}"""
_RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
_EXECUTE = f"""async (code) => {{
  const kernel = {_PANEL}.sessionContext.session.kernel;
  const text = [];
  const errors = [];
  const future = kernel.requestExecute({{code, store_history: false}});
  future.onIOPub = (message) => {{
    if (message.header.msg_type === 'stream') text.push(message.content.text);
    if (message.header.msg_type === 'error') errors.push(message.content.traceback.join('\\n'));
  }};
  await future.done;
  return {{text: text.join(''), errors: errors.join('\\n')}};
}}"""
_REPLACE_CELLS = f"""async (sources) => {{
  const model = {_PANEL}.content.model.sharedModel;
  model.transact(() => {{
    model.deleteCellRange(0, model.cells.length);
    model.insertCells(0, sources.map((source) => ({{cell_type: 'code', source}})));
  }});
}}"""
_OUTPUT_ERRORS = f"""() => Array.from({_PANEL}.content.model.sharedModel.cells)
  .flatMap((cell) => cell.cell_type === 'code' ? cell.getOutputs() : [])
  .filter((output) => output.output_type === 'error')
  .map((output) => output.traceback.join('\\n')).join('\\n')"""
_SHUT_DOWN = f"() => {_PANEL}?.sessionContext?.shutdown?.()"


class KernelError(AssertionError):
    """Code that a test ran in the kernel raised."""


class Lab:
    """One page with one open notebook.

    Parameters
    ----------
    context : BrowserContext
        Of its own, so that nothing stays from other tests.
    url : str
        Address of the server.
    root : Path
        Folder that the server shows.
    """

    def __init__(self, context: BrowserContext, url: str, root: Path) -> None:
        self.context = context
        self.url = url
        self.root = root
        self.problems: list[str] = []
        context.set_default_timeout(TIMEOUT_MS)
        context.on("weberror", self._note)
        self.page: Page = context.new_page()

    def _note(self, error: WebError) -> None:
        """Keep an uncaught error, unless it is wholly one of JupyterLab's or Notebook's own."""
        stack = error.error.stack or str(error.error)
        own = "/static/lab/" in stack or "/static/notebook/" in stack
        if not own or "blob:" in stack or "/extensions/" in stack:
            self.problems.append(stack)

    # -- the notebook --------------------------------------------------------------------------

    def write(self, name: str, cells: list[str]) -> Path:
        """Write a notebook of code cells into the served folder."""
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        path = self.root / name
        nbformat.write(notebook, path)
        return path

    def open(self, name: str, *, classic: bool = False) -> None:
        """Open a notebook of the served folder and wait for its kernel."""
        place = f"notebooks/{name}" if classic else f"lab/tree/{name}?reset"
        self.page.goto(f"{self.url}/{place}")
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the notebook is there and its kernel connected."""
        self.page.wait_for_function(_READY)

    def run_all(self) -> None:
        """Run all cells; returns when the last one has ended; raises if one failed."""
        self.page.evaluate(_RUN_ALL)
        errors = self.page.evaluate(_OUTPUT_ERRORS)
        if errors:
            raise KernelError(errors)

    def start_all(self) -> None:
        """Run all cells without waiting for them; see `wait_started`."""
        self.page.evaluate(f"() => {{ window.started = ({_RUN_ALL})(); }}")

    def wait_started(self) -> None:
        """Wait for what `start_all` began; the kernel's status tells of its other threads too."""
        self.page.evaluate("() => window.started")

    def show(self, *cells: str, picture_size: tuple[int, int] = CAT_SIZE) -> View:
        """Put these cells in place of all others, run them, and return the first widget."""
        self.replace_cells(*cells)
        self.run_all()
        return self.view(picture_size=picture_size)

    def replace_cells(self, *cells: str) -> None:
        """Put these cells in place of all others."""
        self.page.evaluate(_REPLACE_CELLS, list(cells))

    def view(self, index: int = 0, picture_size: tuple[int, int] = CAT_SIZE) -> View:
        """Return a view of a widget in the outputs, counted from the top, when it is ready."""
        return View(self.page, index, picture_size).wait_ready()

    def command(self, name: str, **arguments: Any) -> None:
        """Execute a command of the application."""
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments]
        )

    # -- the kernel ----------------------------------------------------------------------------

    def kernel(self, code: str) -> str:
        """Run code in the kernel, beside the cells, and return what it printed."""
        answer = self.page.evaluate(_EXECUTE, code)
        if answer["errors"]:
            raise KernelError(answer["errors"])
        text: str = answer["text"]
        return text

    def value(self, expression: str) -> Any:
        """Return the value of a Python expression in the kernel (through JSON)."""
        return json.loads(
            self.kernel(
                "import json, numpy as _np\n"
                f"print(json.dumps({expression}, default=lambda v: _np.asarray(v).tolist()))"
            )
        )

    def restart_kernel(self) -> None:
        """Restart the kernel without asking, and wait for the new one."""
        self.page.evaluate(f"() => {_PANEL}.sessionContext.restartKernel()")
        self.wait_ready()

    def start(self, code: str) -> None:
        """Run code in the kernel without waiting for it."""
        self.page.evaluate(
            f"""(code) => {{ {_PANEL}.sessionContext.session.kernel.requestExecute(
              {{code, store_history: false}}); }}""",
            code,
        )

    def describe(self, screenshot: Path) -> str:
        """Take a picture of the page and return what the widgets on it say about themselves."""
        screenshot.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.page.screenshot(path=screenshot)
            facts = self.page.evaluate(
                """() => Array.from(document.querySelectorAll('.dmw-root')).map(
                  (root) => JSON.stringify(root.dataset) + '\\n' + root.innerText).join('\\n\\n')"""
            )
        except Exception as error:
            facts = f"the page cannot be asked: {error}"
        return f"screenshot: {screenshot}\n{facts}\nproblems: {self.problems}"

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """End the kernel and close the page."""
        if not self.page.is_closed():
            self.page.evaluate(_SHUT_DOWN)
        self.context.close()
