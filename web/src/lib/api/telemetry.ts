/** Measurements of one device over time. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/lib/api/client";
import type { Aggregation } from "@/lib/api/types";
import type { Reading } from "@/lib/series";

export const AGGREGATIONS = ["none", "1m", "5m", "1h", "1d"] as const satisfies Aggregation[];

/** Most messages in one answer, by the API. */
const MOST = 10_000;
/** How far back "recent" goes: less for a device that sends more than one answer holds. */
const RECENT_MS = [15 * 60_000, 60_000, 5_000];

export interface History {
  readings: Reading[];
  /** False when the range holds more than one answer. */
  complete: boolean;
}

async function load(
  deviceId: string,
  span: number,
  aggregation: Aggregation,
  signal: AbortSignal,
): Promise<History> {
  const now = Date.now();
  const { data, next_cursor } = await unwrap(
    api.GET("/api/v1/devices/{device_id}/data", {
      signal,
      params: {
        path: { device_id: deviceId },
        query: {
          start_time: new Date(now - span).toISOString(),
          end_time: new Date(now).toISOString(),
          aggregation,
          ...(aggregation === "none" && { limit: MOST }),
        },
      },
    }),
  );
  return { readings: data, complete: next_cursor == null };
}

export function history(deviceId: string, span: number, aggregation: Aggregation) {
  return queryOptions({
    queryKey: ["devices", deviceId, "history", span, aggregation],
    queryFn: ({ signal }) => load(deviceId, span, aggregation, signal),
  });
}

/** What came shortly before now; the live channel goes on from there. */
export function recentReadings(deviceId: string) {
  return queryOptions({
    queryKey: ["devices", deviceId, "recent"],
    staleTime: 0,
    gcTime: 0,
    refetchOnWindowFocus: false,
    queryFn: async ({ signal }): Promise<Reading[]> => {
      for (const span of RECENT_MS) {
        const { readings, complete } = await load(deviceId, span, "none", signal);
        if (complete) return readings;
      }
      return [];
    },
  });
}
