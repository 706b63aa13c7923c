import { describe, expect, it } from "vitest";
import { commandFor, KEY_SHEET } from "../src/keys";

const press = (key: string, more = {}) =>
  commandFor({ key, ctrl: false, shift: false, alt: false, onCanvas: true, ...more });

describe("keys", () => {
  it("reach their commands in either case", () => {
    expect(press("n")).toBe("new");
    expect(press("N", { shift: true })).toBe("new");
    expect(press("+", { shift: true })).toBe("new");
    expect(press("?", { shift: true })).toBe("keys");
    expect(press("0")).toBe("fit");
    expect(press("3")).toBe("class-3");
    expect(press("[")).toBe("opacity-down");
  });

  it("undo and redo, but leave the browser its other shortcuts", () => {
    expect(press("z", { ctrl: true })).toBe("undo");
    expect(press("Z", { ctrl: true, shift: true })).toBe("redo");
    expect(press("y", { ctrl: true })).toBe("redo");
    expect(press("c", { ctrl: true })).toBeNull();
    expect(press("s", { ctrl: true })).toBeNull();
    expect(press("0", { ctrl: true })).toBeNull();
    expect(press("F5")).toBeNull();
  });

  it("move the crosshair and click only on the picture", () => {
    expect(press("ArrowLeft")).toBe("move-left");
    expect(press("ArrowUp", { shift: true })).toBe("move-up-far");
    expect(press("Enter")).toBe("enter");
    expect(press("Enter", { shift: true })).toBe("enter-background");
    expect(press("Enter", { onCanvas: false })).toBeNull();
    expect(press("ArrowLeft", { onCanvas: false })).toBeNull();
  });

  it("take Tab only on the picture and never with Shift", () => {
    expect(press("Tab")).toBe("doubtful");
    expect(press("Tab", { shift: true })).toBeNull();
    expect(press("Tab", { onCanvas: false })).toBeNull();
  });

  it("are all explained on the sheet", () => {
    const sheet = KEY_SHEET.flatMap(([, lines]) => lines.map(([keys]) => keys)).join("; ");
    for (const key of "NVGBEOHMPIL0[],.") expect(sheet).toContain(key);
  });
});
