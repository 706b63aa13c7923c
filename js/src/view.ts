/**
 * One view of one widget: puts the parts together, listens to the model and draws once per frame.
 */
import { Actions } from "./actions";
import { Channel } from "./channel";
import { runCommand, toolbarState, toolHint } from "./commands";
import { element, setAttribute } from "./dom";
import { type InstanceHooks, InstanceList } from "./instances";
import { pointerHooks, surfaceOf } from "./interaction";
import { bindKeys } from "./keyboard";
import type { Command } from "./keys";
import { clockFor, frameScheduler } from "./lifetime";
import { Link } from "./link";
import { Notices } from "./notices";
import { Painter } from "./painter";
import { LookPanel, makeKeySheet } from "./panels";
import { bindPointer } from "./pointer";
import type { Answer, Traits, WidgetModel } from "./protocol";
import { Reporter } from "./report";
import type { Bytes } from "./rle";
import { observeSize } from "./size";
import { LOST_AFTER_MS, StatusLine } from "./status";
import { Store } from "./store";
import { followTheme } from "./theme";
import { Toolbar } from "./toolbar";

const OBSERVED: (keyof Traits)[] = [
  "clicks",
  "instances",
  "active_instance",
  "classes",
  "status",
  "history",
  "hover_preview",
];
const SNAPSHOT_AFTER_MS = 2000;
const PULSE_MS = 40;
const WATCH_MS = 400;

export class View {
  readonly root = element("div", "dmw-root", {
    tabindex: "-1",
    "data-lm-suppress-shortcuts": "true",
    "data-ready": "0",
  });
  readonly #stage = element("div", "dmw-stage");
  readonly #painter = new Painter();
  readonly #status = new StatusLine();
  readonly #clock;
  readonly #schedule: () => void;
  readonly #store: Store;
  readonly #channel: Channel;
  readonly #link: Link;
  readonly #actions: Actions;
  readonly #reporter: Reporter;
  readonly #notices: Notices;
  readonly #toolbar: Toolbar;
  readonly #list: InstanceList;
  readonly #keySheet: HTMLElement;
  readonly #look: LookPanel;
  #measure = () => {};
  #stopTimer: (() => void) | null = null;
  #active = 0;

  constructor(
    readonly model: WidgetModel,
    readonly signal: AbortSignal,
  ) {
    this.#clock = clockFor(signal);
    this.#schedule = frameScheduler(() => this.#draw(), signal);
    this.#notices = new Notices(signal);
    const say = (text: string) => this.#status.say(text);
    const error = (message: string) => this.#notices.show(message, message);
    this.#store = new Store(model, this.#schedule);
    this.#channel = new Channel(model, this.#clock, {
      changed: () => this.#store.invalidate(),
      refused: error,
    });
    this.#store.channel = this.#channel;
    this.#reporter = new Reporter(this.root, this.#store);
    this.#actions = new Actions(this.#store, {
      say,
      answered: (revision, madeAt) => this.#reporter.answered(revision, madeAt),
    });
    this.#link = new Link(this.#store, {
      error,
      say,
      pictureShown: () => this.#pictureShown(),
      labelled: (revision, decodeMs) => {
        this.#actions.dropPaintedStrokes(revision);
        this.#reporter.labelled(revision, decodeMs);
      },
    });
    const { front } = this.#painter;
    const gestures = bindPointer(
      front,
      surfaceOf(this.#store),
      pointerHooks(this.#store, this.#actions, this.#link, this.#clock, () => this.#pressed()),
      this.#clock,
      signal,
    );
    const context = {
      store: this.#store,
      actions: this.#actions,
      link: this.#link,
      say,
      cancelGesture: () => {
        const active = gestures.active;
        if (active) gestures.cancel();
        return active;
      },
    };
    const run = (command: Command) => runCommand(command, context);
    const panels = {
      change: (patch: object) => this.#store.set(patch),
      close: () => {
        this.#store.set({ panel: "none" });
        this.#focus();
      },
    };
    this.#toolbar = new Toolbar(run, signal);
    this.#list = new InstanceList(this.#listHooks(), signal);
    this.#keySheet = makeKeySheet(panels, signal);
    this.#look = new LookPanel(panels, signal);
    bindKeys(this.root, front, this.#store, run, signal);
    this.#assemble();
  }

  #assemble(): void {
    const { back, front } = this.#painter;
    setAttribute(back, "aria-hidden", "true");
    setAttribute(front, "tabindex", "0");
    setAttribute(front, "role", "application");
    setAttribute(front, "aria-label", "Picture, loading");
    this.#stage.append(back, front, this.#notices.node, this.#look.node);
    const body = element("div", "dmw-body", this.#stage, this.#list.node, this.#keySheet);
    this.root.append(this.#toolbar.node, body, this.#status.node);
  }

  #listHooks(): InstanceHooks {
    const send = this.#actions.send.bind(this.#actions);
    return {
      select: (id) => this.#actions.select(id),
      setClass: (instance, class_name) => send({ type: "set_class", instance, class_name }),
      setVisible: (instance, visible) => send({ type: "set_visible", instance, visible }),
      setLocked: (instance, locked) => send({ type: "lock", instance, locked }),
      remove: (instance) => send({ type: "remove_instance", instance }),
      highlight: (id) => {
        if (this.#store.ui.highlight !== id) this.#store.set({ highlight: id });
      },
    };
  }

  /** Listen to the model and ask for the picture; call once the root is in the page. */
  start(): void {
    followTheme(this.root, this.signal);
    this.#measure = observeSize(this.root, this.#stage, this.#painter, this.#store, this.signal);
    this.#listen();
    void this.#link.ready();
    void this.#link.showSnapshot();
    this.#clock.later(SNAPSHOT_AFTER_MS, () => this.#fallBackToSnapshot());
    this.#schedule();
  }

  #listen(): void {
    const { model } = this;
    const traits = () => {
      this.#channel.traitsChanged();
      this.#store.invalidate();
    };
    const picture = () => {
      traits();
      if (this.#store.imageInfo.version !== this.#store.imageVersion) void this.#link.ready();
    };
    const message = (content: Answer, buffers: readonly Bytes[] = []) => {
      if (!content || typeof content !== "object") return;
      if (!this.#channel.receive(content, buffers)) this.#link.receive(content, buffers);
      this.#store.changed();
    };
    const handlers: [string, (...args: never[]) => void][] = [
      ...OBSERVED.map((name): [string, () => void] => [`change:${name}`, traits]),
      ["change:image_info", picture],
      ["msg:custom", message],
      ["comm_live_update", () => this.#connectionChanged()],
    ];
    for (const [name, handler] of handlers) model.on(name, handler as () => void);
    this.signal.addEventListener(
      "abort",
      () => {
        for (const [name, handler] of handlers) model.off(name, handler as () => void);
        this.#channel.close();
        this.#link.close();
      },
      { once: true },
    );
  }

  #fallBackToSnapshot(): void {
    if (this.#store.imageVersion >= 0 || !this.#store.snapshot) return;
    this.#freeze("This is a saved result.");
  }

  #freeze(why: string): void {
    this.#store.set({ readOnly: true });
    this.#notices.show("saved", `${why} Run the cell to go on editing.`, "note");
  }

  /** Jupyter says that the kernel of this model has gone (restarted, shut down), or is back. */
  #connectionChanged(): void {
    if (this.#store.live) this.#freeze("The kernel is gone.");
    else void this.#link.ready();
  }

  #pictureShown(): void {
    const { imageInfo, viewport, imageVersion } = this.#store;
    const name = imageInfo.name ? ` ${imageInfo.name}` : "";
    const size = `${viewport.imageWidth} by ${viewport.imageHeight} pixels`;
    const help = "Arrow keys move a crosshair, Enter clicks, question mark lists the keys.";
    setAttribute(this.#painter.front, "aria-label", `Picture${name}, ${size}. ${help}`);
    if (imageVersion >= 0) this.#notices.hide("saved");
    this.#measure();
  }

  #focus(): void {
    this.#painter.front.focus({ preventScroll: true });
  }

  /** The picture was pressed: it takes the keys, but needs no focus ring for that. */
  #pressed(): void {
    this.#painter.front.dataset.pointer = "";
    this.#focus();
  }

  #draw(): void {
    const store = this.#store;
    const { shown, ui, viewport, scene } = store;
    const now = performance.now();
    const focused = this.root.matches(":focus-within");
    this.#painter.draw({ scene, shown, ui, viewport, now, focused });
    this.#reporter.drawn(performance.now() - now);
    this.#drawCursor();
    this.#toolbar.update(toolbarState(store));
    this.#list.update({
      shown,
      classes: store.trait("classes", []),
      imagePixels: viewport.imageWidth * viewport.imageHeight,
      readOnly: !store.live,
    });
    if (shown.active !== this.#active) {
      this.#active = shown.active;
      this.#list.reveal(shown.active);
    }
    this.#keySheet.hidden = ui.panel !== "keys";
    this.#look.node.hidden = ui.panel !== "look";
    this.#look.update(ui);
    const silenceMs = this.#channel.silenceMs();
    this.#drawStatus(silenceMs);
    this.#drawAgain(silenceMs);
  }

  #drawStatus(silenceMs: number): void {
    const store = this.#store;
    this.#status.update(
      {
        status: store.trait("status", {}),
        unanswered: this.#channel.unanswered,
        silenceMs,
        pictureShown: store.imageVersion >= 0,
        readOnly: store.ui.readOnly,
        hint: toolHint(store),
      },
      store.latencyMs,
      store.roundTripMs,
      store.viewport.scale,
    );
    if (silenceMs < LOST_AFTER_MS || store.ui.readOnly) {
      this.#notices.hide("silent");
      return;
    }
    const waiting = this.#channel.unanswered;
    const kept = waiting ? ` Nothing is lost: ${waiting} waiting.` : "";
    const text = `The kernel has not answered for ${Math.floor(silenceMs / 1000)} s.${kept}`;
    const run = () => this.#channel.resend();
    this.#notices.show("silent", text, "error", { label: "Send again", run });
  }

  #drawCursor(): void {
    const { ui, live } = this.#store;
    const { front } = this.#painter;
    setAttribute(front, "data-cursor", ui.panning ? "pan" : live ? ui.tool : "none");
    // Fingers scroll the page over a whole picture; a zoomed one or a brush needs them itself.
    const scrolls = this.#store.viewport.fitted && (ui.tool === "click" || !live);
    front.style.touchAction = scrolls ? "pan-x pan-y" : "none";
  }

  /** Pulses and waiting need further frames; everything else draws on demand. */
  #drawAgain(silenceMs: number): void {
    this.#stopTimer?.();
    this.#stopTimer = null;
    const { shown, scene, ui } = this.#store;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const pulsing = !calm && (scene.doubtful !== null || shown.clicks.some((c) => c.pending));
    const waiting = this.#channel.unanswered > 0 || silenceMs > 0;
    if (ui.readOnly || (!pulsing && !waiting)) return;
    // A kernel that stays silent for long is no reason to keep the processor awake.
    const pause = pulsing && silenceMs < LOST_AFTER_MS ? PULSE_MS : WATCH_MS;
    this.#stopTimer = this.#clock.later(pause, this.#schedule);
  }
}
