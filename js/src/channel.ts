/**
 * Requests and answers over one widget model, for one view.
 *
 * Intents (they change the session) carry `seq` and are never dropped: they wait here until the
 * kernel answers and can be sent again under the same id and seq. Questions have no seq and may
 * time out. No DOM; time comes in through the `Clock`.
 */
import {
  type Answer,
  type InstanceRef,
  type Intent,
  type Question,
  randomName,
  type WidgetModel,
} from "./protocol";
import { clickArrived, type Pending } from "./reducer";
import type { Bytes } from "./rle";

export interface Clock {
  now(): number;
  /** Run `task` after `ms`; returns a function that calls it off. */
  later(ms: number, task: () => void): () => void;
}

export interface Reply {
  answer: Answer;
  buffers: readonly Bytes[];
}

interface Entry extends Pending {
  intent: Intent;
  settled: boolean;
  id: string;
  /** Number on the wire: counts what was really sent, so the kernel never sees a gap. */
  wireSeq: number;
  sentAt: number | null;
  resolve(answer: Answer | null): void;
}

interface Waiting {
  question: Question;
  sentAt: number;
  resolve(reply: Reply): void;
  reject(error: Error): void;
  cancel(): void;
}

export interface ChannelHooks {
  /** Something about the unanswered intents changed. */
  changed(): void;
  /** The kernel refused an intent. */
  refused(message: string, intent: Intent): void;
}

const SETTLE_MS = 1000;

export class Channel {
  readonly view = randomName();
  lastSent = 0;
  lastAcked = 0;
  lastRevision = -1;
  lastHeardAt: number;
  #entries: Entry[] = [];
  #waiting = new Map<string, Waiting>();
  #created = new Map<number, InstanceRef>();
  #nextSeq = 1;
  #closed = false;

  constructor(
    readonly model: WidgetModel,
    readonly clock: Clock,
    readonly hooks: ChannelHooks,
  ) {
    this.lastHeardAt = clock.now();
  }

  /** Intents that the person should already see applied. */
  get pending(): readonly Pending[] {
    return this.#entries;
  }

  /** How many intents the kernel has not answered. */
  get unanswered(): number {
    return this.#entries.filter((e) => !e.settled).length;
  }

  /** Milliseconds for which the kernel has left the oldest message unanswered; 0 if none waits. */
  silenceMs(): number {
    const sent = this.#entries.filter((e) => !e.settled && e.sentAt !== null).map((e) => e.sentAt!);
    for (const w of this.#waiting.values()) {
      if (w.question.type === "ready") sent.push(w.sentAt);
    }
    if (!sent.length) return 0;
    return this.clock.now() - Math.max(Math.min(...sent), this.lastHeardAt);
  }

  /** Ask something that does not change the session. */
  ask(question: Question, timeoutMs = 20_000): Promise<Reply> {
    const id = randomName();
    return new Promise((resolve, reject) => {
      const cancel = Number.isFinite(timeoutMs)
        ? this.clock.later(timeoutMs, () => {
            this.#waiting.delete(id);
            reject(new Error(`no answer to ${question.type}`));
          })
        : () => {};
      this.#waiting.set(id, { question, sentAt: this.clock.now(), resolve, reject, cancel });
      this.#send({ ...question, id, view: this.view });
    });
  }

  /** Queue an intent. Returns its seq and a promise of the answer (null when it was refused). */
  intend(intent: Intent): { seq: number; answered: Promise<Answer | null> } {
    const seq = this.#nextSeq++;
    const sinceT = (this.model.get("clicks") ?? []).reduce((t, c) => Math.max(t, c.t), -1);
    const id = randomName();
    const entry = { seq, intent, sinceT, settled: false, id, wireSeq: 0, sentAt: null };
    const answered = new Promise<Answer | null>((resolve) => {
      this.#entries.push({ ...entry, resolve });
    });
    this.#flush();
    this.hooks.changed();
    return { seq, answered };
  }

  /** Send every unanswered message again, unchanged; the kernel applies each seq once. */
  resend(): void {
    for (const [id, w] of this.#waiting) this.#send({ ...w.question, id, view: this.view });
    for (const entry of this.#entries) {
      if (!entry.settled && entry.sentAt !== null) this.#transmit(entry);
    }
    this.lastHeardAt = this.clock.now();
    this.hooks.changed();
  }

  /** Offer a message of the kernel; true when it answered something of this view. */
  receive(message: Answer, buffers: readonly Bytes[]): boolean {
    this.lastHeardAt = this.clock.now();
    if (!message.id) return false;
    const waiting = this.#waiting.get(message.id);
    if (waiting) {
      this.#waiting.delete(message.id);
      waiting.cancel();
      if (message.type === "error") waiting.reject(new Error(message.message ?? "unknown error"));
      else waiting.resolve({ answer: message, buffers });
      this.hooks.changed();
      return true;
    }
    const entry = this.#entries.find((e) => e.id === message.id && !e.settled);
    if (entry) this.#answered(entry, message);
    return entry !== undefined;
  }

  /** The published traits changed: settled clicks that have arrived need no stand-in any more. */
  traitsChanged(): void {
    this.lastHeardAt = this.clock.now();
    this.#entries = this.#entries.filter((e) => !(e.settled && this.#arrived(e)));
  }

  /** No further answers: waiting questions end with an error. */
  close(): void {
    this.#closed = true;
    for (const w of this.#waiting.values()) {
      w.cancel();
      w.reject(new Error("the view was closed"));
    }
    this.#waiting.clear();
  }

  #answered(entry: Entry, message: Answer): void {
    this.lastAcked = Math.max(this.lastAcked, entry.wireSeq);
    const creates =
      entry.intent.type === "new_instance" ||
      (entry.intent.type === "click" && entry.intent.instance === "new");
    if (message.type === "error") {
      this.#remove(entry);
      if (creates) this.#redirect(entry.seq);
      entry.resolve(null);
      this.hooks.refused(message.message ?? "unknown error", entry.intent);
    } else {
      if (typeof message.revision === "number") {
        this.lastRevision = Math.max(this.lastRevision, message.revision);
      }
      if (creates) {
        this.#created.set(entry.seq, message.instance ?? this.model.get("active_instance") ?? 0);
      }
      this.#settle(entry);
      entry.resolve(message);
    }
    this.#flush();
    this.hooks.changed();
  }

  #settle(entry: Entry): void {
    entry.settled = true;
    if (this.#arrived(entry)) {
      this.#remove(entry);
      return;
    }
    this.clock.later(SETTLE_MS, () => {
      this.#remove(entry);
      if (!this.#closed) this.hooks.changed();
    });
  }

  /** True when the traits already show what a settled intent made. */
  #arrived(entry: Entry): boolean {
    if (entry.intent.type === "new_instance") {
      const id = this.#created.get(entry.seq);
      return (this.model.get("instances") ?? []).some((i) => i.id === id);
    }
    return clickArrived(entry, this.model.get("clicks") ?? []);
  }

  #remove(entry: Entry): void {
    this.#entries = this.#entries.filter((e) => e !== entry);
  }

  /** The intent that should have made an instance failed: the next one that needs it makes it. */
  #redirect(seq: number): void {
    let heir: number | null = null;
    for (const entry of this.#entries) {
      const ref = "instance" in entry.intent ? entry.intent.instance : undefined;
      if (typeof ref !== "object" || ref.after !== seq) continue;
      if (heir === null && entry.intent.type === "click") {
        entry.intent = { ...entry.intent, instance: "new" };
        heir = entry.seq;
      } else if (heir !== null) {
        entry.intent = { ...entry.intent, instance: { after: heir } } as Intent;
      } else {
        this.#remove(entry); // a class name or a stroke for an instance that never came to be
        entry.resolve(null);
      }
    }
  }

  /** Send what can be sent, in order; an intent that needs an unknown instance holds the rest. */
  #flush(): void {
    for (const entry of this.#entries) {
      if (entry.settled || entry.sentAt !== null) continue;
      const ref = "instance" in entry.intent ? entry.intent.instance : undefined;
      if (typeof ref === "object") {
        const known = this.#created.get(ref.after);
        if (known === undefined) return;
        entry.intent = { ...entry.intent, instance: known } as Intent;
      }
      entry.sentAt = this.clock.now();
      entry.wireSeq = ++this.lastSent;
      this.#transmit(entry);
    }
  }

  #transmit(entry: Entry): void {
    this.#send({ ...entry.intent, id: entry.id, view: this.view, seq: entry.wireSeq });
  }

  #send(content: object): void {
    try {
      // Some hosts return a promise that rejects when there is no kernel: the silence says it all.
      const sent = this.model.send(content) as Promise<unknown> | undefined;
      sent?.catch?.(() => {});
    } catch {
      // Without a kernel the message stays unanswered, which is shown and can be sent again.
    }
  }
}
