import { describe, expect, it } from "vitest";
import * as vp from "../src/viewport";

const start = vp.resizeImage(vp.resizeStage(vp.EMPTY_VIEWPORT, 600, 400), 3000, 1000);

describe("viewport", () => {
  it("shows the whole picture, centred", () => {
    expect(start).toMatchObject({ scale: 0.2, left: 0, top: 100, fitted: true });
  });

  it("takes every pixel to the stage and back, at any zoom", () => {
    let v = start;
    for (const factor of [1, 3, 7.3, 40, 0.2]) {
      v = vp.zoomAt(v, factor, 431, 217);
      for (const [x, y] of [
        [0, 0],
        [2999, 999],
        [1234, 567],
        [17, 998],
      ] as const) {
        const at = vp.toStage(v, x, y);
        expect(vp.toPixel(v, at.x, at.y)).toEqual({ x, y });
      }
    }
  });

  it("keeps the point under the pointer while zooming", () => {
    const before = vp.toImage(start, 300, 200);
    const zoomed = vp.zoomAt(start, 4, 300, 200);
    const after = vp.toImage(zoomed, 300, 200);
    expect(after.x).toBeCloseTo(before.x, 6);
    expect(after.y).toBeCloseTo(before.y, 6);
    expect(zoomed.fitted).toBe(false);
  });

  it("never shows less than the whole picture and never more than its limit", () => {
    expect(vp.zoomAt(vp.zoomAt(start, 5, 10, 10), 1e-9, 10, 10)).toMatchObject({
      scale: 0.2,
      fitted: true,
    });
    expect(vp.zoomAt(start, 1e9, 10, 10).scale).toBe(40);
  });

  it("leaves no gap when panned against the edge", () => {
    const v = vp.panBy(vp.zoomAt(start, 10, 300, 200), 1e6, -1e6);
    expect(v.left).toBe(0);
    expect(v.top).toBeCloseTo(400 - 1000 * v.scale, 6);
    expect(vp.panBy(start, 50, 50)).toBe(start);
  });

  it("has no pixel beside the picture", () => {
    expect(vp.toPixel(start, 300, 99.9)).toBeNull();
    expect(vp.toPixel(start, 300, 300.1)).toBeNull();
    expect(vp.toNearestPixel(start, -5, 900)).toEqual({ x: 0, y: 999 });
  });

  it("stays fitted when the cell is resized, keeps the centre otherwise", () => {
    expect(vp.resizeStage(start, 300, 400)).toMatchObject({ scale: 0.1, fitted: true });
    const zoomed = vp.zoomAt(start, 10, 300, 200);
    const centre = vp.toImage(zoomed, 300, 200);
    const resized = vp.resizeStage(zoomed, 500, 300);
    const after = vp.toImage(resized, 250, 150);
    expect(after.x).toBeCloseTo(centre.x, 6);
    expect(after.y).toBeCloseTo(centre.y, 6);
  });

  it("reveals a pixel outside of the stage", () => {
    const v = vp.zoomAt(start, 20, 0, 200);
    const shown = vp.toStage(vp.reveal(v, 2900, 10), 2900, 10);
    expect(shown.x).toBeLessThanOrEqual(600);
    expect(shown.y).toBeGreaterThanOrEqual(0);
  });

  it("focuses on a region in the middle of the stage", () => {
    const v = vp.focusOn(start, 1500, 500, 20);
    expect(vp.toStage(v, 1500, 500)).toEqual({ x: 300, y: 200 });
    expect(vp.focusOn(start, 1500, 500, 5000).fitted).toBe(true);
  });

  it("works for a single pixel", () => {
    const v = vp.resizeImage(vp.resizeStage(vp.EMPTY_VIEWPORT, 640, 480), 1, 1);
    expect(v.scale).toBe(480);
    expect(vp.toPixel(v, 320, 240)).toEqual({ x: 0, y: 0 });
  });
});
