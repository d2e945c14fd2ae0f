"use client";

import { NOTHING, elapsed, formatDateTime, formatDuration, formatRelative } from "@/lib/format";
import { useNow } from "@/lib/use-now";

/** A moment, as distance from now; in full on hover and for screen readers' tooltips. */
export function Ago({ time }: { time: string | null | undefined }) {
  const now = useNow();
  if (!time) return <span className="text-muted">{NOTHING}</span>;
  return (
    <time dateTime={time} title={formatDateTime(time)} className="whitespace-nowrap">
      {formatRelative(time, now)}
    </time>
  );
}

/** How long something took, or has been taking. */
export function Elapsed({
  start,
  end,
}: {
  start: string | null | undefined;
  end: string | null | undefined;
}) {
  const now = useNow();
  return <span className="whitespace-nowrap">{formatDuration(elapsed(start, end, now))}</span>;
}
