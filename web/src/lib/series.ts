/** Measurements in the shape that charts take: one column of times, one of values a metric. */

export interface Reading {
  /** ISO 8601. */
  timestamp: string;
  metrics: Readonly<Record<string, number | null>>;
}

export interface Series {
  /** Seconds since the epoch, ascending. */
  time: number[];
  columns: Map<string, (number | null)[]>;
}

/** P2 before P10, as people read them. */
export const byName = new Intl.Collator(undefined, { numeric: true }).compare;

/** Put readings in order of time; null stands where a reading lacks a metric. */
export function toSeries(readings: readonly Reading[]): Series {
  const ordered = readings
    .map((reading) => ({ at: Date.parse(reading.timestamp) / 1000, metrics: reading.metrics }))
    .filter(({ at }) => !Number.isNaN(at))
    .sort((a, b) => a.at - b.at);
  const names = new Set(ordered.flatMap(({ metrics }) => Object.keys(metrics)));
  return {
    time: ordered.map(({ at }) => at),
    columns: new Map(
      [...names]
        .sort(byName)
        .map((name) => [name, ordered.map(({ metrics }) => metrics[name] ?? null)] as const),
    ),
  };
}

/**
 * Add new readings to a window of the latest ones.
 *
 * A device that reconnects sends what it kept, so new readings may be older than those at hand.
 */
export function appendReadings(
  window: readonly Reading[],
  arrived: readonly Reading[],
  limit: number,
): Reading[] {
  const merged = [...window, ...arrived];
  const last = window.at(-1);
  if (last && arrived.some(({ timestamp }) => Date.parse(timestamp) < Date.parse(last.timestamp))) {
    merged.sort((a, b) => Date.parse(a.timestamp) - Date.parse(b.timestamp));
  }
  return merged.slice(-limit);
}

export interface Summary {
  latest: number;
  lowest: number;
  highest: number;
}

/** What a column says in three numbers; null when it holds none. */
export function summarize(column: readonly (number | null)[]): Summary | null {
  let summary: Summary | undefined;
  for (const value of column) {
    if (value === null) continue;
    const { lowest, highest }: Summary = summary ?? {
      latest: value,
      lowest: value,
      highest: value,
    };
    summary = {
      latest: value,
      lowest: Math.min(lowest, value),
      highest: Math.max(highest, value),
    };
  }
  return summary ?? null;
}
