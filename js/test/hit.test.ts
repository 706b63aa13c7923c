import { describe, expect, it } from "vitest";
import { instanceAt, markerAt } from "../src/hit";
import type { ShownClick } from "../src/reducer";
import { EMPTY_VIEWPORT, resizeImage, resizeStage, toStage, zoomAt } from "../src/viewport";

const view = resizeImage(resizeStage(EMPTY_VIEWPORT, 400, 400), 1000, 1000);
const click = (t: number, x: number, y: number): ShownClick => ({
  ...{ t, x, y, instance: 1 },
  ...{ key: `t${t}`, pending: false },
});

describe("markers under the pointer", () => {
  const clicks = [click(0, 100, 100), click(1, 120, 100), click(2, 100, 100)];

  it("finds the nearest, and of two on one spot the later", () => {
    expect(markerAt(clicks, view, toStage(view, 120, 100))?.t).toBe(1);
    expect(markerAt(clicks, view, toStage(view, 100, 100))?.t).toBe(2);
    expect(markerAt(clicks, view, { x: 300, y: 300 })).toBeNull();
  });

  it("has the same reach on the screen at any zoom", () => {
    for (const factor of [1, 8, 40]) {
      const zoomed = zoomAt(view, factor, 40, 40);
      const at = toStage(zoomed, 100, 100);
      expect(markerAt([clicks[0]!], zoomed, { x: at.x + 10, y: at.y })).not.toBeNull();
      expect(markerAt([clicks[0]!], zoomed, { x: at.x + 12, y: at.y })).toBeNull();
    }
  });
});

describe("instance under a pixel", () => {
  const labels = Uint8Array.of(0, 1, 2, 3);
  const map = { width: 2, height: 2, labels, lengths: Uint32Array.of(1, 1, 1, 1) };

  it("reads a reduced label map", () => {
    expect(instanceAt(map, { x: 499, y: 499 }, 1000, 1000)).toBe(0);
    expect(instanceAt(map, { x: 500, y: 499 }, 1000, 1000)).toBe(1);
    expect(instanceAt(map, { x: 0, y: 999 }, 1000, 1000)).toBe(2);
    expect(instanceAt(map, { x: 999, y: 999 }, 1000, 1000)).toBe(3);
    expect(instanceAt(null, { x: 0, y: 0 }, 10, 10)).toBe(0);
  });
});
