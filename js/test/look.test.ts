import { describe, expect, it } from "vitest";
import { adjustmentTable, applyTable, isIdentity, NO_ADJUSTMENT } from "../src/adjust";
import { heatRamp, inkOn, luminance, parseColour } from "../src/colour";
import { stageHeight } from "../src/size";
import { readSnapshot } from "../src/snapshot";
import { describeStatus, type StatusFacts } from "../src/status";
import { INITIAL_UI, stepBack, stepBrush, stepOpacity } from "../src/ui";

describe("brightness, contrast, gamma", () => {
  it("change nothing by default", () => {
    expect(isIdentity(NO_ADJUSTMENT)).toBe(true);
    expect([...adjustmentTable(NO_ADJUSTMENT)]).toEqual(Array.from({ length: 256 }, (_, i) => i));
  });

  it("go the expected way and leave alpha alone", () => {
    expect(adjustmentTable({ ...NO_ADJUSTMENT, gamma: 2 })[64]).toBeGreaterThan(100);
    expect(adjustmentTable({ ...NO_ADJUSTMENT, contrast: 1 })[32]).toBe(0);
    const pixels = Uint8ClampedArray.of(10, 20, 30, 77);
    applyTable(pixels, adjustmentTable({ ...NO_ADJUSTMENT, brightness: 0.2 }));
    expect([...pixels]).toEqual([61, 71, 81, 77]);
  });
});

describe("colours", () => {
  it("parse, and fall back to grey", () => {
    expect(parseColour("#fa0")).toEqual([154, 163, 175]);
    expect(parseColour("#E69F00")).toEqual([230, 159, 0]);
    expect(parseColour("url(javascript:x)")).toEqual([154, 163, 175]);
  });

  it("carry readable ink", () => {
    expect(inkOn("#f0e442")).toBe("#14161a");
    expect(inkOn("#0072b2")).toBe("#ffffff");
    expect(luminance([255, 255, 255])).toBeCloseTo(1);
  });

  it("ramp from clear to glowing", () => {
    const ramp = heatRamp();
    expect(ramp[0]! >>> 24).toBe(0);
    for (let i = 1; i < 256; i++)
      expect(ramp[i]! >>> 24).toBeGreaterThanOrEqual(ramp[i - 1]! >>> 24);
  });
});

describe("view state", () => {
  it("steps opacity and brush within limits", () => {
    let ui = INITIAL_UI;
    for (let i = 0; i < 20; i++) ui = { ...ui, ...stepOpacity(ui, -1) };
    expect(ui.opacity).toBe(0);
    for (let i = 0; i < 40; i++) ui = { ...ui, ...stepBrush(ui, 1, 800) };
    expect(ui.brushRadius).toBe(200);
    for (let i = 0; i < 60; i++) ui = { ...ui, ...stepBrush(ui, -1, 800) };
    expect(ui.brushRadius).toBe(1);
  });

  it("is left one thing at a time with Esc, the picture last", () => {
    let ui = { ...INITIAL_UI, panel: "keys" as const, armed: true, tool: "brush" as const };
    const seen: string[] = [];
    for (let i = 0; i < 4; i++) {
      const patch = stepBack(ui);
      seen.push(Object.keys(patch).join());
      ui = { ...ui, ...patch } as typeof ui;
    }
    expect(seen).toEqual(["panel", "armed,armedClass", "tool", "tabReleased"]);
  });

  it("gives the picture the height it needs, within reason", () => {
    expect(stageHeight(600, 300, 200, 900)).toBe(400);
    expect(stageHeight(600, 3000, 100, 900)).toBe(200);
    expect(stageHeight(600, 100, 3000, 900)).toBe(648);
  });
});

describe("status line", () => {
  const facts: StatusFacts = {
    ...{ status: { state: "ready" }, unanswered: 0, silenceMs: 0 },
    ...{ pictureShown: true, readOnly: false, hint: "" },
  };

  it("says what the kernel does", () => {
    expect(describeStatus(facts)).toEqual({ tone: "ready", text: "Ready" });
    expect(describeStatus({ ...facts, status: { state: "embedding" } }).text).toBe("Embedding…");
    expect(describeStatus({ ...facts, status: { state: "error", message: "no" } })).toEqual({
      tone: "error",
      text: "no",
    });
    expect(describeStatus({ ...facts, readOnly: true }).tone).toBe("saved");
  });

  it("tells a busy kernel from a slow model", () => {
    const silent = { ...facts, unanswered: 3, silenceMs: 1600 };
    expect(describeStatus(silent)).toEqual({
      tone: "waiting",
      text: "Kernel busy: 3 actions wait",
    });
    expect(describeStatus({ ...silent, silenceMs: 1400 }).tone).toBe("ready");
    const embedding = { ...silent, unanswered: 0, status: { state: "embedding" as const } };
    expect(describeStatus(embedding).tone).toBe("working");
  });
});

describe("snapshot", () => {
  const good = {
    ...{ width: 40, height: 20, thumbnail: "AAEC" },
    labels: { width: 2, height: 1, lengths: "AQAAAAEAAAA=", ids: "AAU=" },
  };

  it("unpacks", () => {
    const snapshot = readSnapshot(good)!;
    expect([...snapshot.labels!.labels]).toEqual([0, 5]);
    expect([...snapshot.thumbnail]).toEqual([0, 1, 2]);
    expect(snapshot).toMatchObject({ width: 40, mime: "image/jpeg", clicks: [], instances: [] });
  });

  it("is nothing when it is missing or damaged", () => {
    expect(readSnapshot(undefined)).toBeNull();
    expect(readSnapshot({})).toBeNull();
    expect(readSnapshot({ ...good, thumbnail: "***" })).toBeNull();
    expect(readSnapshot({ ...good, labels: { ...good.labels, ids: "AA==" } })).toBeNull();
  });
});
