import { beforeEach, describe, expect, it } from "vitest";
import { Channel, type Clock } from "../src/channel";
import type { Intent, Traits, WidgetModel } from "../src/protocol";

class FakeClock implements Clock {
  time = 0;
  #tasks: { at: number; task: () => void }[] = [];
  now = () => this.time;
  later(ms: number, task: () => void) {
    const entry = { at: this.time + ms, task };
    this.#tasks.push(entry);
    return () => {
      this.#tasks = this.#tasks.filter((e) => e !== entry);
    };
  }
  advance(ms: number) {
    this.time += ms;
    const due = this.#tasks.filter((e) => e.at <= this.time);
    this.#tasks = this.#tasks.filter((e) => e.at > this.time);
    for (const { task } of due) task();
  }
}

type Sent = { type: string; id: string; view: string; seq?: number; instance?: unknown };

class FakeModel {
  traits: Partial<Traits> = { clicks: [], instances: [], active_instance: 0 };
  sent: Sent[] = [];
  broken = false;
  get = (key: keyof Traits) => this.traits[key];
  set() {}
  save_changes() {}
  on() {}
  off() {}
  send(content: Sent) {
    if (this.broken) throw new Error("no comm");
    this.sent.push(structuredClone(content));
  }
}

let model: FakeModel;
let clock: FakeClock;
let refused: string[];
let channel: Channel;

beforeEach(() => {
  model = new FakeModel();
  clock = new FakeClock();
  refused = [];
  channel = new Channel(model as unknown as WidgetModel, clock, {
    changed() {},
    refused: (message) => refused.push(message),
  });
});

const click = (instance: number | "new" | { after: number }, x = 1): Intent => ({
  ...{ type: "click", x, y: 2 },
  instance,
});
const ok = (index: number, extra = {}) =>
  channel.receive({ type: "ok", id: model.sent[index]!.id, revision: index + 1, ...extra }, []);

describe("intents", () => {
  it("are numbered without gaps and acknowledged", async () => {
    channel.intend(click(1));
    const { answered } = channel.intend({ type: "undo" });
    expect(model.sent.map((m) => m.seq)).toEqual([1, 2]);
    expect(new Set(model.sent.map((m) => m.id)).size).toBe(2);
    expect(channel.unanswered).toBe(2);
    ok(0, { t: 0, instance: 1 });
    ok(1);
    expect(await answered).toMatchObject({ revision: 2 });
    expect([channel.lastSent, channel.lastAcked, channel.unanswered]).toEqual([2, 2, 0]);
  });

  it("wait for the id of an instance that is being made, and keep their order", () => {
    const { seq } = channel.intend(click("new"));
    channel.intend(click({ after: seq }, 5));
    channel.intend({ type: "undo" });
    expect(model.sent).toHaveLength(1);
    ok(0, { t: 0, instance: 7 });
    expect(model.sent.map((m) => [m.type, m.seq, m.instance])).toEqual([
      ["click", 1, "new"],
      ["click", 2, 7],
      ["undo", 3, undefined],
    ]);
  });

  it("are not lost with the instance they were meant for", () => {
    const { seq } = channel.intend(click("new"));
    channel.intend({ type: "set_class", instance: { after: seq }, class_name: "cat" });
    channel.intend(click({ after: seq }, 5));
    channel.intend(click({ after: seq }, 6));
    channel.receive({ type: "error", id: model.sent[0]!.id, message: "too many" }, []);
    expect(refused).toEqual(["too many"]);
    expect(model.sent[1]).toMatchObject({ type: "click", seq: 2, instance: "new" });
    ok(1, { t: 0, instance: 3 });
    expect(model.sent[2]).toMatchObject({ type: "click", seq: 3, instance: 3 });
    expect(channel.unanswered).toBe(1);
  });

  it("stay shown until the traits have caught up, but not forever", () => {
    channel.intend(click(1));
    ok(0, { t: 4, instance: 1 });
    expect(channel.pending).toHaveLength(1);
    expect(channel.pending[0]!.settled).toBe(true);
    model.traits.clicks = [{ t: 4, x: 1, y: 2, instance: 1 }];
    channel.traitsChanged();
    expect(channel.pending).toHaveLength(0);
    channel.intend(click(1, 9));
    ok(1);
    clock.advance(1001);
    expect(channel.pending).toHaveLength(0);
  });

  it("are sent again under the same id and seq", () => {
    channel.intend(click(1));
    channel.intend(click(2));
    ok(0);
    channel.resend();
    expect(model.sent).toHaveLength(3);
    expect(model.sent[2]).toEqual(model.sent[1]);
    ok(1);
    channel.receive({ type: "ok", id: model.sent[1]!.id, revision: 9, duplicate: true }, []);
    expect(channel.unanswered).toBe(0);
    expect(channel.lastRevision).toBe(2);
  });

  it("survive a model without a kernel", () => {
    model.broken = true;
    channel.intend(click(1));
    model.broken = false;
    channel.resend();
    expect(model.sent).toHaveLength(1);
  });
});

describe("questions", () => {
  it("get their own answer and nothing else", async () => {
    const reply = channel.ask({ type: "margin" });
    expect(channel.receive({ type: "ok", id: "someone else's" }, [])).toBe(false);
    expect(channel.receive({ type: "labels", id: null }, [])).toBe(false);
    const { id } = model.sent[0]!;
    expect(channel.receive({ type: "margin", id, width: 2 }, [])).toBe(true);
    expect((await reply).answer.width).toBe(2);
  });

  it("fail with the words of the kernel, after a time, or when the view closes", async () => {
    const refusedOne = channel.ask({ type: "margin" });
    channel.receive({ type: "error", id: model.sent[0]!.id, message: "no masks" }, []);
    await expect(refusedOne).rejects.toThrow("no masks");
    const late = channel.ask({ type: "ping" }, 500);
    clock.advance(501);
    await expect(late).rejects.toThrow("no answer to ping");
    const open = channel.ask({ type: "ready" }, Number.POSITIVE_INFINITY);
    channel.close();
    await expect(open).rejects.toThrow("closed");
  });
});

describe("silence", () => {
  it("counts from the oldest unanswered message, or the last sign of life", () => {
    expect(channel.silenceMs()).toBe(0);
    channel.intend(click(1));
    clock.advance(1000);
    channel.intend(click(1, 3));
    clock.advance(1000);
    expect(channel.silenceMs()).toBe(2000);
    channel.traitsChanged();
    expect(channel.silenceMs()).toBe(0);
    clock.advance(300);
    expect(channel.silenceMs()).toBe(300);
    ok(0);
    ok(1);
    expect(channel.silenceMs()).toBe(0);
  });
});
