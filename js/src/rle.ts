/**
 * Label maps on the wire: row-major run lengths (uint32, little endian) with ids, or raw ids.
 * The one codec of the front end; the kernel's is `dynamite_widget/rle.py`.
 */
import type { LabelHeader } from "./protocol";

/** Height × width instance ids, row-major; 0 is background. */
export interface LabelMap {
  width: number;
  height: number;
  labels: Uint8Array | Uint16Array;
  /** Of the runs of equal ids, in pixels. */
  lengths: Uint32Array;
}

export interface Runs {
  lengths: Uint32Array;
  ids: Uint8Array | Uint16Array;
}

export type Bytes = ArrayBuffer | ArrayBufferView;

/** The bytes of a message buffer, without a copy. */
export function toBytes(buffer: Bytes): Uint8Array<ArrayBuffer> {
  if (ArrayBuffer.isView(buffer)) {
    return new Uint8Array(buffer.buffer as ArrayBuffer, buffer.byteOffset, buffer.byteLength);
  }
  return new Uint8Array(buffer);
}

function toUint32(buffer: Bytes): Uint32Array {
  const bytes = toBytes(buffer);
  if (bytes.byteLength % 4) throw new Error("run lengths are not whole 32-bit numbers");
  return new Uint32Array(bytes.slice().buffer); // copied: message buffers may be unaligned
}

function toIds(buffer: Bytes, idBytes: 1 | 2): Uint8Array | Uint16Array {
  const bytes = toBytes(buffer);
  if (idBytes === 1) return bytes.slice();
  if (bytes.byteLength % 2) throw new Error("ids are not whole 16-bit numbers");
  return new Uint16Array(bytes.slice().buffer);
}

/** Decode a label map; throws when header and buffers do not agree. */
export function decodeLabels(header: LabelHeader, buffers: readonly Bytes[]): LabelMap {
  const { width, height } = header;
  const idBytes = header.id_bytes === 2 ? 2 : 1;
  const size = width * height;
  if (header.encoding === "raw") {
    if (!buffers[0]) throw new Error("a raw label map needs one buffer");
    const labels = toIds(buffers[0], idBytes);
    if (labels.length !== size) {
      throw new Error(`label map holds ${labels.length} pixels, expected ${size}`);
    }
    return { width, height, labels, lengths: encodeRuns(labels).lengths };
  }
  if (!buffers[0] || !buffers[1]) throw new Error("a run-length label map needs two buffers");
  const lengths = toUint32(buffers[0]);
  const labels = expandRuns(lengths, toIds(buffers[1], idBytes), size);
  return { width, height, labels, lengths };
}

/** Run lengths and ids to one id per pixel; the lengths must add up to `size`. */
export function expandRuns(
  lengths: Uint32Array,
  ids: Uint8Array | Uint16Array,
  size: number,
): Uint8Array | Uint16Array {
  if (lengths.length !== ids.length) {
    throw new Error(`${lengths.length} run lengths but ${ids.length} ids`);
  }
  const labels = ids instanceof Uint8Array ? new Uint8Array(size) : new Uint16Array(size);
  let at = 0;
  for (let run = 0; run < lengths.length; run++) {
    const end = at + lengths[run]!;
    if (end > size) break;
    if (ids[run]) labels.fill(ids[run]!, at, end);
    at = end;
  }
  if (at !== size) throw new Error(`run lengths do not add up to ${size} pixels`);
  return labels;
}

/** One id per pixel to runs. */
export function encodeRuns(labels: Uint8Array | Uint16Array): Runs {
  const lengths: number[] = [];
  const ids: number[] = [];
  let start = 0;
  for (let at = 1; at <= labels.length; at++) {
    if (at === labels.length || labels[at] !== labels[start]) {
      lengths.push(at - start);
      ids.push(labels[start]!);
      start = at;
    }
  }
  const packed = labels instanceof Uint8Array ? Uint8Array.from(ids) : Uint16Array.from(ids);
  return { lengths: Uint32Array.from(lengths), ids: packed };
}

/** Base64 to bytes (snapshots). */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}
