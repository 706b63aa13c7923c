/**
 * The words spoken between the front end and the kernel: traits, messages, answers.
 * Types only, plus the few functions that check what arrives. PROTOCOL.md is the prose version.
 */

/** One click of the session; `t` is its identity, `instance` 0 means background. */
export interface ClickRecord {
  t: number;
  x: number;
  y: number;
  instance: number;
}

/** One object of the session, as the kernel publishes it. `area` counts full-resolution pixels. */
export interface InstanceRecord {
  id: number;
  class_name: string | null;
  colour: string;
  area: number | null;
  score: number | null;
  visible: boolean;
  locked: boolean;
  clicks: number;
}

export type KernelState = "starting" | "embedding" | "predicting" | "ready" | "error";

export interface StatusRecord {
  state?: KernelState;
  message?: string | null;
  model?: string | null;
  device?: string | null;
  latency_ms?: number | null;
}

export interface ImageInfo {
  version: number;
  width: number;
  height: number;
  name?: string | null;
}

export interface HistoryRecord {
  can_undo?: boolean;
  can_redo?: boolean;
}

/** What a saved notebook keeps; see PROTOCOL.md, section "Snapshot". */
export interface SnapshotRecord {
  width?: number;
  height?: number;
  thumbnail?: string;
  mime?: string;
  labels?: SnapshotLabels | null;
  clicks?: ClickRecord[];
  instances?: InstanceRecord[];
}

export interface SnapshotLabels {
  width: number;
  height: number;
  id_bytes?: 1 | 2;
  lengths: string;
  ids: string;
}

/** Synced traits this front end reads. The kernel is their only writer, except for `painted`. */
export interface Traits {
  clicks: ClickRecord[];
  instances: InstanceRecord[];
  active_instance: number;
  classes: string[];
  status: StatusRecord;
  image_info: ImageInfo;
  history: HistoryRecord;
  label_version: number;
  hover_preview: boolean;
  snapshot: SnapshotRecord;
  painted: number;
}

/** The instance an intent is about; `after` stands for the one that an unanswered intent creates. */
export type InstanceRef = number | "new" | { after: number };

export type Intent =
  | { type: "click"; x: number; y: number; instance: InstanceRef; class_name?: string }
  | { type: "move_click"; t: number; x: number; y: number }
  | { type: "remove_click"; t: number }
  | { type: "new_instance"; class_name?: string }
  | { type: "remove_instance"; instance: number }
  | { type: "set_class"; instance: InstanceRef; class_name: string }
  | { type: "select"; instance: number }
  | { type: "lock"; instance: number; locked: boolean }
  | { type: "set_visible"; instance: number; visible: boolean }
  | {
      type: "paint";
      instance: InstanceRef;
      mode: "add" | "erase";
      radius: number;
      points: [number, number][];
    }
  | { type: "undo" }
  | { type: "redo" }
  | { type: "reset" };

export type Question =
  | { type: "ready" }
  | { type: "preview"; x: number; y: number; instance: number | "new" }
  | { type: "margin" }
  | { type: "doubtful"; index: number }
  | { type: "ping" };

/** Header of a label map; its buffers follow: run lengths and ids, or raw ids. */
export interface LabelHeader {
  width: number;
  height: number;
  encoding: "rle" | "raw";
  id_bytes?: 1 | 2;
}

export interface LabelsMessage extends LabelHeader {
  type: "labels";
  /** Half a revision less than the state's for provisional labels. */
  revision: number;
  latency_ms?: number | null;
  image_version?: number;
}

/** Any answer; the fields beside `type` and `id` depend on the type. */
export interface Answer {
  type: string;
  id: string | null;
  message?: string;
  revision?: number;
  t?: number;
  instance?: number;
  [field: string]: unknown;
}

/** The part of an anywidget model that is used here. */
export interface WidgetModel {
  get<K extends keyof Traits>(key: K): Traits[K] | undefined;
  set<K extends keyof Traits>(key: K, value: Traits[K]): void;
  save_changes(): void;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): unknown;
  // biome-ignore lint/suspicious/noExplicitAny: event callbacks differ by event name
  on(name: string, callback: (...args: any[]) => void): void;
  // biome-ignore lint/suspicious/noExplicitAny: event callbacks differ by event name
  off(name: string, callback: (...args: any[]) => void): void;
}

/** True for `{type: "labels", revision, …}` with the fields that decoding needs. */
export function isLabelsMessage(message: unknown): message is LabelsMessage {
  const m = message as LabelsMessage;
  return (
    !!m &&
    m.type === "labels" &&
    Number.isFinite(m.revision) &&
    Number.isInteger(m.width) &&
    Number.isInteger(m.height) &&
    (m.encoding === "rle" || m.encoding === "raw")
  );
}

/** A short random name; `crypto.randomUUID` is missing on plain-http hubs, this is not. */
export function randomName(length = 12): string {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => (byte % 36).toString(36)).join("");
}
