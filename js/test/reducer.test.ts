import { describe, expect, it } from "vitest";
import type { InstanceRecord, Intent } from "../src/protocol";
import { clickArrived, type Pending, project } from "../src/reducer";

const instance = (id: number): InstanceRecord => ({
  ...{ id, class_name: "cat", colour: "#e69f00", area: 10, score: 0.9 },
  ...{ visible: true, locked: false, clicks: 1 },
});
const published = {
  clicks: [
    { t: 0, x: 5, y: 6, instance: 1 },
    { t: 1, x: 7, y: 8, instance: 0 },
  ],
  instances: [instance(1), instance(2)],
  active: 1,
};
const pending = (seq: number, intent: Intent, settled = false, sinceT = 1): Pending => ({
  ...{ seq, intent, settled, sinceT },
});

describe("what is shown while answers are on their way", () => {
  it("is the published state when nothing waits", () => {
    const shown = project(published, []);
    expect(shown.clicks.map((c) => c.pending)).toEqual([false, false]);
    expect(shown.active).toBe(1);
  });

  it("has a hollow marker for a click at once", () => {
    const { clicks } = project(published, [pending(1, { type: "click", x: 1, y: 2, instance: 2 })]);
    expect(clicks[2]).toMatchObject({ x: 1, y: 2, instance: 2, pending: true });
  });

  it("does not show a click twice when the trait is faster than the answer", () => {
    const wait = pending(1, { type: "click", x: 7, y: 8, instance: 0 }, false, 0);
    const shown = project(published, [wait]);
    expect(shown.clicks).toHaveLength(2);
    expect(shown.clicks[1]!.pending).toBe(true);
    expect(clickArrived(wait, published.clicks)).toBe(true);
  });

  it("lists an instance that is still being made, and gathers its further clicks", () => {
    const shown = project(published, [
      pending(4, { type: "click", x: 1, y: 2, instance: "new", class_name: "dog" }),
      pending(5, { type: "click", x: 3, y: 4, instance: { after: 4 } }),
    ]);
    expect(shown.active).toBe(-4);
    expect(shown.instances[2]).toMatchObject({ id: -4, class_name: "dog", pending: true });
    expect(shown.clicks.slice(2).map((c) => c.instance)).toEqual([-4, -4]);
  });

  it("applies edits in order and leaves the published records alone", () => {
    const before = structuredClone(published);
    const shown = project(published, [
      pending(1, { type: "move_click", t: 0, x: 50, y: 60 }),
      pending(2, { type: "remove_click", t: 1 }),
      pending(3, { type: "lock", instance: 1, locked: true }),
      pending(4, { type: "set_visible", instance: 2, visible: false }),
      pending(5, { type: "set_class", instance: 2, class_name: "mug" }),
      pending(6, { type: "select", instance: 2 }),
      pending(7, { type: "undo" }),
      pending(8, { type: "paint", instance: 1, mode: "add", radius: 2, points: [[1, 1]] }),
    ]);
    expect(shown.clicks).toHaveLength(1);
    expect(shown.clicks[0]).toMatchObject({ x: 50, y: 60, pending: true });
    expect(shown.instances[0]).toMatchObject({ locked: true });
    expect(shown.instances[1]).toMatchObject({ visible: false, class_name: "mug" });
    expect(shown.active).toBe(2);
    expect(published).toEqual(before);
  });

  it("removes an instance with its clicks, and everything on reset", () => {
    const removed = project(published, [pending(1, { type: "remove_instance", instance: 1 })]);
    expect(removed.clicks.map((c) => c.instance)).toEqual([0]);
    expect(removed.active).toBe(0);
    const reset = project(published, [pending(1, { type: "reset" })]);
    expect(reset).toEqual({ clicks: [], instances: [], active: 0 });
  });
});
