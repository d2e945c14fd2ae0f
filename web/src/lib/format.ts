/** How values read on screen. Pure functions: the locale is the browser's. */

const NUMBER = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6 });
const COUNT = new Intl.NumberFormat();
const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const DATE_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const STEPS: readonly [limit: number, unit: Intl.RelativeTimeFormatUnit, seconds: number][] = [
  [60, "second", 1],
  [3600, "minute", 60],
  [86_400, "hour", 3600],
  [30 * 86_400, "day", 86_400],
  [365 * 86_400, "month", 30 * 86_400],
  [Infinity, "year", 365 * 86_400],
];

export const NOTHING = "–";

/** A measurement: six significant digits, no noise. */
export function formatNumber(value: number | null | undefined): string {
  return value == null || !Number.isFinite(value) ? NOTHING : NUMBER.format(value);
}

/** How many there are of something. */
export function formatCount(value: number | null | undefined): string {
  return value == null ? NOTHING : COUNT.format(value);
}

/** A moment as distance from now, "3 min. ago". */
export function formatRelative(time: string | null | undefined, now: number): string {
  if (!time) return NOTHING;
  const seconds = (Date.parse(time) - now) / 1000;
  if (Number.isNaN(seconds)) return NOTHING;
  const distance = Math.abs(seconds);
  if (distance < 5) return "now";
  const step = STEPS.find(([limit]) => distance < limit) ?? STEPS[STEPS.length - 1]!;
  return RELATIVE.format(Math.trunc(seconds / step[2]), step[1]);
}

/** A moment in full, in local time. */
export function formatDateTime(time: string | null | undefined): string {
  const parsed = time ? Date.parse(time) : NaN;
  return Number.isNaN(parsed) ? NOTHING : DATE_TIME.format(parsed);
}

/** A span between two moments: "840 ms", "4.2 s", "3 min 20 s", "2 h 5 min", "3 d 4 h". */
export function formatDuration(milliseconds: number | null | undefined): string {
  if (milliseconds == null || !Number.isFinite(milliseconds) || milliseconds < 0) return NOTHING;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  const parts: readonly [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

/** The span from `start` to `end`, or to `now` when it has not ended. */
export function elapsed(
  start: string | null | undefined,
  end: string | null | undefined,
  now: number,
): number | null {
  if (!start) return null;
  return Math.max(0, (end ? Date.parse(end) : now) - Date.parse(start));
}
