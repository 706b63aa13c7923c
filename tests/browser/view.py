"""One view of a widget as a person has it: pictures pixels to point at, pixels to look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Button = Literal["left", "middle", "right"]
Modifier = Literal["Alt", "Control", "ControlOrMeta", "Meta", "Shift"]


# What a view writes into its attributes is there in the frame after an event.
NEXT_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
CAT_SIZE = (451, 300)


@dataclass(frozen=True)
class Colour:
    """A pixel of a canvas, 0..255 each."""

    red: int
    green: int
    blue: int
    alpha: int

    def distance(self, other: Colour) -> int:
        """Largest difference over the four channels."""
        return max(
            abs(self.red - other.red),
            abs(self.green - other.green),
            abs(self.blue - other.blue),
            abs(self.alpha - other.alpha),
        )


class View:
    """The `index`-th widget of a page, from the top.

    Parameters
    ----------
    page : Page
        Where it is.
    index : int
        Of all widgets of the page.
    picture_size : (int, int)
        Width and height of the picture it shows; by default those of the cat.
    """

    def __init__(
        self, page: Page, index: int = 0, picture_size: tuple[int, int] = CAT_SIZE
    ) -> None:
        self.page = page
        self.root: Locator = page.locator(".dmw-root").nth(index)
        self.index = index
        self.picture_size = picture_size

    # -- waiting -------------------------------------------------------------------------------

    def data(self, name: str) -> str | None:
        """Return a ``data-`` attribute of the root."""
        return self.root.get_attribute(f"data-{name}")

    def wait_for(self, condition: str, argument: Any = None) -> View:
        """Wait until a JavaScript condition on ``root`` (and ``argument``) holds."""
        self.page.wait_for_function(
            f"""([index, argument]) => {{
              const found = Array.from(document.querySelectorAll('.dmw-root'));
              const look = (tree) => {{  // marimo puts widgets into shadow trees
                for (const node of tree.querySelectorAll('*')) {{
                  if (!node.shadowRoot) continue;
                  found.push(...node.shadowRoot.querySelectorAll('.dmw-root'));
                  look(node.shadowRoot);
                }}
              }};
              if (!found.length) look(document);
              const root = found[index];
              return !!root && ({condition});
            }}""",
            arg=[self.index, argument],
        )
        return self

    def wait_ready(self) -> View:
        """Wait until the picture is on the canvas."""
        return self.wait_for("root.dataset.ready === '1' || root.dataset.ready === 'true'")

    def wait_painted(self, revision: int) -> View:
        """Wait until the masks of a revision, or of a later one, are on the canvas."""
        return self.wait_for("Number(root.dataset.painted ?? -1) >= argument", revision)

    def wait_acknowledged(self) -> View:
        """Wait until the kernel has answered all that this view sent."""
        # The attributes are written when the view draws, in the frame after an event.
        self.page.evaluate(NEXT_FRAME)
        return self.wait_for("root.dataset.seq === root.dataset.acked")

    # -- pointing ------------------------------------------------------------------------------

    @property
    def front(self) -> Locator:
        """The canvas that takes the pointer."""
        return self.root.locator(".dmw-front")

    def size(self) -> tuple[float, float]:
        """Width and height of the canvas in CSS pixels."""
        box = self.front.bounding_box()
        assert box is not None, "the canvas is not displayed"
        return box["width"], box["height"]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where the middle of picture pixel (x, y) is on the canvas while the picture is whole."""
        width, height = self.size()
        image_width, image_height = self.picture_size
        scale = min(width / image_width, height / image_height)
        left = (width - image_width * scale) / 2
        top = (height - image_height * scale) / 2
        return left + (x + 0.5) * scale, top + (y + 0.5) * scale

    def click(
        self,
        x: float,
        y: float,
        button: Button = "left",
        modifiers: tuple[Modifier, ...] = (),
    ) -> View:
        """Click on picture pixel (x, y)."""
        across, down = self.place(x, y)
        self.click_canvas(across, down, button, modifiers)
        return self

    def click_canvas(
        self,
        across: float,
        down: float,
        button: Button = "left",
        modifiers: tuple[Modifier, ...] = (),
    ) -> None:
        """Click on a point of the canvas in CSS pixels."""
        self.front.click(
            position={"x": across, "y": down}, button=button, modifiers=list(modifiers)
        )

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> View:
        """Press on one picture pixel, move, release on another."""
        self.front.scroll_into_view_if_needed()
        box = self.front.bounding_box()
        assert box is not None
        (x0, y0), (x1, y1) = self.place(*start), self.place(*end)
        mouse = self.page.mouse
        mouse.move(box["x"] + x0, box["y"] + y0)
        mouse.down()
        mouse.move(box["x"] + x1, box["y"] + y1, steps=steps)
        mouse.up()
        return self

    def hover(self, x: float, y: float) -> View:
        """Move the pointer over picture pixel (x, y)."""
        across, down = self.place(x, y)
        self.front.hover(position={"x": across, "y": down})
        return self

    def press(self, *keys: str) -> View:
        """Press keys one after the other with the picture focused."""
        self.front.focus()
        for key in keys:
            self.page.keyboard.press(key)
        return self

    def command(self, name: str) -> View:
        """Push a button of the toolbar."""
        self.root.locator(f"[data-command='{name}']").click()
        return self

    # -- looking -------------------------------------------------------------------------------

    def overlay(self, x: float, y: float) -> Colour:
        """Colour of the front canvas (masks, outlines, markers) at a picture pixel."""
        across, down = self.place(x, y)
        return self._read(".dmw-front", across, down)

    def picture(self, across: float, down: float) -> Colour:
        """Colour of the picture canvas at a point in CSS pixels."""
        return self._read(".dmw-picture", across, down)

    def _read(self, selector: str, across: float, down: float) -> Colour:
        pixel = self.root.locator(selector).evaluate(
            """(canvas, [across, down]) => {
              const ratio = canvas.width / canvas.clientWidth;
              const x = Math.floor(across * ratio), y = Math.floor(down * ratio);
              return Array.from(canvas.getContext('2d').getImageData(x, y, 1, 1).data);
            }""",
            [across, down],
        )
        return Colour(*pixel)

    def wait_overlay(self, x: float, y: float, visible: bool) -> View:
        """Wait until a mask covers picture pixel (x, y), or no longer does."""
        across, down = self.place(x, y)
        return self.wait_for(
            """(() => {
              const canvas = root.querySelector('.dmw-front');
              const ratio = canvas.width / canvas.clientWidth;
              const [across, down, visible] = argument;
              const pixel = canvas.getContext('2d').getImageData(
                Math.floor(across * ratio), Math.floor(down * ratio), 1, 1).data;
              return (pixel[3] > 40) === visible;
            })()""",
            [across, down, visible],
        )

    def text(self) -> str:
        """All that can be read in the widget."""
        return self.root.inner_text()

    def wait_text(self, text: str) -> View:
        """Wait until the widget says something."""
        return self.wait_for("root.innerText.includes(argument)", text)

    def attributes(self) -> dict[str, str]:
        """Return the ``data-`` attributes, for messages of failed tests."""
        found: str = self.root.evaluate("root => JSON.stringify(root.dataset)")
        loaded: dict[str, str] = json.loads(found)
        return loaded
