/** The status line: what the kernel is doing, in words; model, device, latency, zoom. */
import { element, setText } from "./dom";
import type { KernelState, StatusRecord } from "./protocol";

const LIVE = { role: "status", "aria-live": "polite" };
export const BUSY_AFTER_MS = 1500;
export const LOST_AFTER_MS = 10_000;

export type Tone = "ready" | "working" | "waiting" | "error" | "saved";

export interface StatusFacts {
  status: StatusRecord;
  unanswered: number;
  silenceMs: number;
  /** The picture is on the canvas. */
  pictureShown: boolean;
  readOnly: boolean;
  /** What the tool in hand expects, shown when there is nothing else to say. */
  hint: string;
}

const WORKING: Partial<Record<KernelState, string>> = {
  starting: "Starting…",
  embedding: "Embedding…",
  predicting: "Predicting…",
};

/** Tone and text of the status line. Pure. */
export function describeStatus(facts: StatusFacts): { tone: Tone; text: string } {
  const { status, unanswered, silenceMs } = facts;
  if (facts.readOnly) return { tone: "saved", text: "Saved result, no kernel" };
  // Intents are answered while the model works; a picture still being prepared may take its time.
  const preparing = unanswered === 0 && status.state !== "ready";
  if (silenceMs > BUSY_AFTER_MS && !preparing) {
    const waiting = unanswered === 1 ? "1 action waits" : `${unanswered} actions wait`;
    return { tone: "waiting", text: unanswered ? `Kernel busy: ${waiting}` : "Kernel busy" };
  }
  if (status.state === "error") {
    return { tone: "error", text: status.message || "The kernel reports an error" };
  }
  const working = status.state && WORKING[status.state];
  if (working) return { tone: "working", text: status.message || working };
  if (!facts.pictureShown) return { tone: "working", text: "Loading the picture…" };
  return { tone: "ready", text: facts.hint || status.message || "Ready" };
}

export class StatusLine {
  readonly node: HTMLElement;
  readonly #text = element("span", "dmw-status-text", LIVE);
  readonly #where = element("span", "dmw-where");
  readonly #latency = element("span", "dmw-latency");
  readonly #zoom = element("span", "dmw-zoom");
  /** Read out, not shown: what a click or the crosshair did. */
  readonly #spoken = element("span", "dmw-spoken", LIVE);

  constructor() {
    const dot = element("span", "dmw-dot", { "aria-hidden": "true" });
    this.node = element("div", "dmw-status", dot, this.#text, this.#spoken);
    this.node.append(this.#where, this.#latency, this.#zoom);
  }

  update(facts: StatusFacts, latencyMs: number | null, roundTripMs: number | null, zoom: number) {
    const { tone, text } = describeStatus(facts);
    this.node.dataset.tone = tone;
    setText(this.#text, text);
    this.#text.title = text;
    const { model, device } = facts.status;
    setText(this.#where, [model, device].filter(Boolean).join(" · "));
    const shown = roundTripMs ?? latencyMs;
    setText(this.#latency, shown === null ? "" : `${Math.round(shown)} ms`);
    this.#latency.title = [
      roundTripMs === null ? "" : `from click to mask ${Math.round(roundTripMs)} ms`,
      latencyMs === null ? "" : `model ${Math.round(latencyMs)} ms`,
    ]
      .filter(Boolean)
      .join(", ");
    setText(this.#zoom, `${Math.round(zoom * 100)} %`);
    this.#zoom.title = "Screen pixels per picture pixel";
  }

  say(text: string): void {
    setText(this.#spoken, text);
  }
}
