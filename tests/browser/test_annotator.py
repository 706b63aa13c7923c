"""A folder of pictures: annotated, the page reloaded, the kernel restarted, resumed, exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from browser.lab import Lab
from browser.view import View

if TYPE_CHECKING:
    from playwright.sync_api import Locator

SIZES = {"astronaut.jpg": (512, 512), "cat.jpg": (451, 300), "coffee.jpg": (600, 400)}
CELL = """from dynamite_widget import DatasetAnnotator
from stand_ins import Discs
annotator = DatasetAnnotator("{source}", "{output}", classes=["thing", "<b>bold</b>"],
                             predictor=Discs())
annotator"""


class Page:
    """The annotator on a page."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.box: Locator = lab.page.locator(".dmw-annotator").first

    def picture(self, name: str) -> View:
        """Wait until a picture is open, and return the widget."""
        self.wait_text(f"{name} (")
        version = self.lab.value("annotator.widget.image_info['version']")
        view = View(self.lab.page, 0, SIZES[name]).wait_ready()
        return view.wait_for("Number(root.dataset.imageVersion) >= argument", version)

    def wait_text(self, text: str) -> None:
        self.box.get_by_text(text).first.wait_for()

    def push(self, name: str) -> None:
        self.box.get_by_role("button", name=name, exact=True).click()

    def tile(self, name: str, kind: str = "strip") -> Locator:
        return self.box.locator(f".dmw-tiles-{kind} .dmw-tile", has_text=name)


def click_and_wait(view: View, x: float, y: float) -> None:
    view.click(x, y).wait_overlay(x, y, visible=True)


def test_three_pictures_reload_restart_resume_export(lab: Lab) -> None:
    folder = lab.root / "three"
    folder.mkdir(exist_ok=True)
    for name in SIZES:
        shutil.copy(lab.root / "images" / name, folder)
    lab.write("annotate.ipynb", [CELL.format(source="three", output="kept")])
    lab.open("annotate.ipynb")
    lab.run_all()
    page = Page(lab)

    # Three pictures: by button, by key, and one that stays open.
    click_and_wait(page.picture("astronaut.jpg"), 200, 120)
    page.push("✓ Done")
    view = page.picture("cat.jpg")
    click_and_wait(view, 120, 90)
    click_and_wait(view.press("n"), 300, 200)
    view.press("Control+Enter")
    view = page.picture("coffee.jpg")
    click_and_wait(view, 300, 180)
    click_and_wait(view.press("n"), 100, 300)
    page.wait_text("2 of 3 done")
    page.tile("cat.jpg").locator("img[src]").wait_for()
    assert page.tile("cat.jpg").get_attribute("data-status") == "done"

    # The page is loaded again: the cell takes over from the annotator of its last run.
    assert lab.value("annotator.flush()")
    lab.page.reload()
    lab.wait_ready()
    lab.run_all()
    page = Page(lab)
    view = page.picture("coffee.jpg").wait_overlay(300, 180, visible=True)
    page.tile("coffee.jpg").locator("img[src]").wait_for()
    click_and_wait(view.press("n"), 500, 80)
    assert lab.value("annotator.flush()")

    # The kernel is restarted: the same picture, and the clicks can be undone.
    lab.restart_kernel()
    lab.run_all()
    page = Page(lab)
    view = page.picture("coffee.jpg").wait_overlay(500, 80, visible=True)
    view.press("Control+z").wait_overlay(500, 80, visible=False)
    view.press("Control+z").wait_overlay(100, 300, visible=False)
    view.wait_overlay(300, 180, visible=True)
    view.press("Control+Enter")
    page.wait_text("3 of 3 done")

    # Looked through, one picture opened from there.
    page.push("▦ Review")
    page.tile("cat.jpg", "grid").locator("img[src]").wait_for()
    page.tile("cat.jpg", "grid").click()
    page.picture("cat.jpg").wait_overlay(120, 90, visible=True)

    # Written as COCO.
    page.push("Write COCO")
    page.wait_text("Written:")
    content = json.loads((lab.root / "kept" / "annotations.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    found = [names[record["image_id"]] for record in content["annotations"]]
    assert sorted(found) == ["astronaut.jpg", "cat.jpg", "cat.jpg", "coffee.jpg"]
    lab.kernel("annotator.close()")
    # anywidget reports models that are closed while they load, as those of the first run were.
    lab.problems[:] = [p for p in lab.problems if "Failed to initialize model" not in p]


def test_read_only_when_open_elsewhere_and_text_is_no_markup(lab: Lab) -> None:
    """A second kernel may look, not click; names and notes are shown as they are written."""
    folder = lab.root / "odd"
    folder.mkdir(exist_ok=True)
    name = "<img src=x onerror=alert(1)>.jpg"
    (folder / name).write_bytes((lab.root / "images" / "cat.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    lab.write("second.ipynb", [CELL.format(source="odd", output="locked")])
    lab.open("second.ipynb")
    # Somebody else holds the lock.
    lab.kernel(
        "import subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'from dynamite_widget.annotator.store "
        'import AnnotationStore as S; s = S("locked"); print(s.read_only, flush=True); '
        "input()'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "assert other.stdout.readline() == b'False\\n'"
    )
    lab.run_all()
    page = Page(lab)
    page.wait_text("Read only: nothing can be changed or saved here")
    view = View(lab.page).wait_ready().wait_for("root.inert")
    assert page.box.get_by_role("button", name="✓ Done").is_disabled()
    assert lab.page.locator("img[onerror]").count() == 0
    page.tile(name).wait_for()
    assert view.text()
    lab.kernel("annotator.close(); other.communicate(b'\\n')")

    # The other one is gone: now it can be worked on, by keys, and by accepting proposals.
    lab.run_all()
    page = Page(lab)
    view = View(lab.page).wait_ready().wait_for("!root.inert")
    lab.kernel("annotator.propose(lambda item: [(10, 10, 110, 110), (300, 150)])")
    page.wait_text("2 to answer")
    # As after a click on the picture; somebody with a crosshair would click with Enter.
    view.front.evaluate("node => { node.dataset.pointer = ''; node.focus(); }")
    lab.page.keyboard.press("Enter")
    page.wait_text("1 to answer")
    lab.page.keyboard.press("Alt+Backspace")
    page.box.get_by_text("to answer").first.wait_for(state="hidden")
    assert lab.value("len(annotator.widget.instances)") == 1
    lab.page.keyboard.press("Alt+ArrowUp")
    page.wait_text("⚑ Unflag")
    lab.page.keyboard.press("Alt+ArrowRight")
    page.wait_text("broken.jpg cannot be read")
    assert list(lab.value("annotator.unreadable")) == ["broken.jpg"]
    assert Path(lab.root / "locked" / "index.jsonl").exists()
    lab.kernel("annotator.close()")
