/** What a saved notebook keeps: thumbnail, label map, clicks. Shown when there is no kernel. */
import type { ClickRecord, InstanceRecord, SnapshotRecord } from "./protocol";
import { decodeLabels, fromBase64, type LabelMap } from "./rle";

export interface Snapshot {
  width: number;
  height: number;
  mime: string;
  thumbnail: Uint8Array<ArrayBuffer>;
  labels: LabelMap | null;
  clicks: ClickRecord[];
  instances: InstanceRecord[];
}

/** Unpack a snapshot trait; null when it holds none or is damaged (it must never break a page). */
export function readSnapshot(record: SnapshotRecord | undefined): Snapshot | null {
  if (!record?.thumbnail || !record.width || !record.height) return null;
  try {
    return {
      width: record.width,
      height: record.height,
      mime: record.mime ?? "image/jpeg",
      thumbnail: fromBase64(record.thumbnail.replace(/^data:[^,]*,/, "")),
      labels: readLabels(record),
      clicks: record.clicks ?? [],
      instances: record.instances ?? [],
    };
  } catch {
    return null;
  }
}

function readLabels({ labels }: SnapshotRecord): LabelMap | null {
  if (!labels?.lengths) return null;
  return decodeLabels(
    { width: labels.width, height: labels.height, encoding: "rle", id_bytes: labels.id_bytes },
    [fromBase64(labels.lengths), fromBase64(labels.ids)],
  );
}
