"""Takes the pictures of the annotator that the documentation shows, in a real JupyterLab.

Writes ``docs/images/annotator.jpg`` and ``annotator-review.jpg``; needs the bundled model::

    python benchmarks/annotator_screenshots.py
    python benchmarks/annotator_screenshots.py --output somewhere --model none    # masks of discs
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.lab import Lab  # noqa: E402
from browser.standalone import check_size, notebook_page, picture_options  # noqa: E402

CELL = """annotator = DatasetAnnotator(
    "images/*.jpg", "annotations", classes=["cat", "cup", "coin"]{model}
)
annotator"""
WORK = """
def go(name, clicks, **marks):
    item = annotator.open(name)
    for x, y, instance, class_name in clicks:
        item.click(x, y, instance=instance, class_name=class_name)
    item.wait(120)
    annotator.store.update(name, seconds=seconds.pop())  # as a person would have taken
    if marks:
        annotator.mark(**marks)

seconds = [19.0, 16.0, 14.0, 31.0]
coins = [(44, 55), (100, 57), (155, 51), (215, 52), (276, 52), (335, 44)]
go("coins.jpg", [(x, y, "new", "coin") for x, y in coins] + [(180, 92, 0, None)], status="done")
go("coffee.jpg", [(300, 190, "new", "cup"), (60, 60, 0, None)], status="done")
go("astronaut.jpg", [(220, 120, "new", "person")], status="done", flagged=True,
   note="helmet as well?")
go("cat.jpg", [(235, 170, "new", "cat"), (425, 120, 0, None)])
"""
PROPOSE = """
annotator.propose(lambda item: {"boxes": [(40, 60, 410, 300), (280, 100, 360, 165)],
                                "classes": ["cat", "eye"], "scores": [0.93, 0.71]}
                  if item.name == "cat.jpg" else None)
"""


def take(lab: Lab, path: Path) -> None:
    """Photograph the annotator."""
    lab.page.mouse.move(2, 2)
    lab.page.wait_for_timeout(1500)
    box = lab.page.locator(".dmw-annotator").first
    box.scroll_into_view_if_needed()
    box.screenshot(path=path, type="jpeg", quality=84)
    check_size(path)


def main() -> None:
    output, model = picture_options(__doc__.splitlines()[0])
    with notebook_page(1180, 1150, scale=1.5) as lab:
        lab.kernel("from dynamite_widget import DatasetAnnotator\nfrom stand_ins import Discs")
        lab.command("application:toggle-left-area")
        view = lab.show(CELL.format(model=model), picture_size=(512, 512))
        lab.kernel(WORK)
        view.wait_for("root.dataset.busy === '0'")
        take(lab, output / "annotator.jpg")
        lab.page.get_by_role("button", name="▦ Review").click()
        take(lab, output / "annotator-review.jpg")
        lab.page.get_by_role("button", name="▦ Review").click()
        lab.kernel("annotator.widget.reset()" + PROPOSE)
        take(lab, output / "annotator-proposals.jpg")
        lab.kernel("annotator.close()")


if __name__ == "__main__":
    main()
