import { beforeEach, describe, expect, it } from "vitest";
import { type Gesture, GestureRecogniser, type PointerInput } from "../src/gesture";
import type { Tool } from "../src/ui";

let emitted: Gesture[];
let tool: Tool;
let zoomed: boolean;
let panning: boolean;
let marker: string | null;
let recogniser: GestureRecogniser;
let time: number;

beforeEach(() => {
  emitted = [];
  tool = "click";
  zoomed = false;
  panning = false;
  marker = null;
  time = 0;
  recogniser = new GestureRecogniser(
    {
      tool: () => tool,
      zoomed: () => zoomed,
      panning: () => panning,
      marker: () => marker,
    },
    (gesture) => emitted.push(gesture),
  );
});

function input(x: number, y: number, more: Partial<PointerInput> = {}): PointerInput {
  const plain = { ctrl: false, shift: false, alt: false };
  return { x, y, id: 1, button: 0, time, kind: "mouse", ...plain, ...more };
}

function tap(x: number, y: number, more: Partial<PointerInput> = {}) {
  recogniser.down(input(x, y, more));
  recogniser.up(input(x, y, more));
}

function dragTo(x: number, y: number, more: Partial<PointerInput> = {}) {
  recogniser.down(input(10, 10, more));
  recogniser.move(input((10 + x) / 2, (10 + y) / 2, more));
  recogniser.move(input(x, y, more));
  recogniser.up(input(x, y, more));
}

const kinds = () => emitted.map((g) => (g.type === "click" ? g.as : g.type));

describe("presses", () => {
  it("mean object, background or select", () => {
    tap(10, 10);
    tap(60, 10, { button: 2 });
    tap(110, 10, { ctrl: true });
    tap(160, 10, { alt: true });
    tool = "background";
    tap(210, 10);
    expect(kinds()).toEqual(["object", "background", "background", "select", "background"]);
  });

  it("on a marker tap, remove or drag it", () => {
    marker = "t3";
    tap(10, 10);
    tap(10, 60, { shift: true });
    dragTo(80, 10);
    expect(kinds()).toEqual(["tap-marker", "remove", "drag", "drag", "drag"]);
    expect(emitted.at(-1)).toMatchObject({ phase: "end", marker: "t3", at: { x: 80 } });
  });

  it("stay clicks when the hand slips, unless there is something to pan", () => {
    dragTo(30, 10);
    expect(kinds()).toEqual(["object"]);
    expect(emitted[0]).toMatchObject({ at: { x: 10, y: 10 } });
    emitted = [];
    time = 1000;
    zoomed = true;
    dragTo(40, 10);
    expect(new Set(kinds())).toEqual(new Set(["pan"]));
  });

  it("pan with space or the middle button", () => {
    dragTo(40, 10, { button: 1 });
    panning = true;
    dragTo(40, 10);
    expect(new Set(kinds())).toEqual(new Set(["pan"]));
  });
});

describe("double click", () => {
  it("takes the first click back", () => {
    tap(10, 10);
    time = 200;
    marker = "s1"; // the marker of the first click lies under the second
    tap(11, 10);
    expect(kinds()).toEqual(["object", "double"]);
    expect(emitted[1]).toMatchObject({ revoke: true });
  });

  it("takes nothing back where the first press made no click", () => {
    panning = true;
    tap(10, 10);
    time = 200;
    tap(10, 10);
    expect(emitted).toMatchObject([{ type: "double", revoke: false }]);
  });

  it("is not two clicks that are apart in time or place", () => {
    tap(10, 10);
    time = 400;
    tap(10, 10);
    time = 500;
    tap(30, 10);
    expect(kinds()).toEqual(["object", "object", "object"]);
  });
});

describe("brush", () => {
  it("draws a stroke, the pen's other end erases", () => {
    tool = "brush";
    dragTo(50, 10);
    expect(emitted.map((g) => g.type === "stroke" && g.phase)).toEqual([
      "start",
      "move",
      "move",
      "end",
    ]);
    emitted = [];
    tool = "click";
    dragTo(50, 10, { button: 5, kind: "pen" });
    expect(emitted[0]).toMatchObject({ type: "stroke", erase: true });
  });

  it("is taken back when cancelled", () => {
    tool = "brush";
    recogniser.down(input(10, 10));
    recogniser.move(input(20, 10));
    recogniser.cancel();
    recogniser.up(input(20, 10));
    expect(emitted.at(-1)).toMatchObject({ phase: "cancel" });
    expect(recogniser.active).toBe(false);
  });
});

describe("fingers", () => {
  const finger = (id: number) => ({ id, kind: "touch" as const });

  it("make a background click when one rests", () => {
    recogniser.down(input(10, 10, finger(1)));
    expect(recogniser.awaitingLongPress).toBe(true);
    expect(recogniser.longPress()).toBe(true);
    recogniser.up(input(10, 10, finger(1)));
    expect(kinds()).toEqual(["background"]);
  });

  it("pinch with two, and click nothing", () => {
    recogniser.down(input(100, 100, finger(1)));
    recogniser.down(input(200, 100, finger(2)));
    recogniser.move(input(300, 100, finger(2)));
    recogniser.up(input(300, 100, finger(2)));
    recogniser.up(input(100, 100, finger(1)));
    expect(emitted).toHaveLength(1);
    expect(emitted[0]).toMatchObject({ type: "pinch", factor: 2, at: { x: 200 }, dx: 50 });
    expect(recogniser.active).toBe(false);
  });

  it("end a stroke when a second one comes", () => {
    tool = "brush";
    recogniser.down(input(100, 100, finger(1)));
    recogniser.down(input(200, 100, finger(2)));
    expect(emitted.at(-1)).toMatchObject({ type: "stroke", phase: "cancel" });
  });
});
