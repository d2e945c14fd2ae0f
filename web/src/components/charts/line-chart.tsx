"use client";

import { useEffect, useRef, useSyncExternalStore } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

const HEIGHT = 150;
const DAY_S = 86_400;
/** Below this many seconds on the axis, its labels tell the seconds too. */
const MINUTES_S = 180;
/** Charts with the same key move their cursors together. */
const CURSORS = uPlot.sync("telemetry");

const DARK = "(prefers-color-scheme: dark)";

function subscribeTheme(listener: () => void): () => void {
  const query = window.matchMedia(DARK);
  query.addEventListener("change", listener);
  return () => query.removeEventListener("change", listener);
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axis(): uPlot.Axis {
  const line = { stroke: colour("--line"), width: 1 };
  return { stroke: colour("--muted"), grid: line, ticks: line, font: "11px system-ui" };
}

/** Times in the user's own way, with no more in them than the stretch shown needs. */
function timeLabels({ scales }: uPlot, moments: number[]): string[] {
  const span = (scales.x?.max ?? 0) - (scales.x?.min ?? 0);
  const format = new Intl.DateTimeFormat(
    undefined,
    span > DAY_S
      ? { month: "short", day: "numeric" }
      : {
          hour: "2-digit",
          minute: "2-digit",
          ...(span < MINUTES_S && { second: "2-digit" }),
          hourCycle: "h23",
        },
  );
  return moments.map((moment) => format.format(moment * 1000));
}

function options(width: number): uPlot.Options {
  return {
    width,
    height: HEIGHT,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: CURSORS.key }, drag: { x: false, y: false } },
    axes: [
      { ...axis(), values: timeLabels, size: 32 },
      {
        ...axis(),
        // Room for the longest label: sensors differ by orders of magnitude.
        size: (_, values) => 14 + 7 * Math.max(3, ...(values ?? []).map((text) => text.length)),
      },
    ],
    series: [
      {},
      {
        stroke: colour("--accent"),
        width: 1.5,
        points: { size: 4 },
        // A device may send its metrics in turns: one missing from a message is no outage.
        spanGaps: true,
      },
    ],
  };
}

export interface LineChartProps {
  /** What the line shows, for those who do not see it. */
  label: string;
  /** Seconds since the epoch, ascending. */
  time: number[];
  values: (number | null)[];
}

/** One metric over time, on a canvas. */
export default function LineChart({ label, time, values }: LineChartProps) {
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const latest = useRef<uPlot.AlignedData>([time, values]);
  const dark = useSyncExternalStore(
    subscribeTheme,
    () => window.matchMedia(DARK).matches,
    () => false,
  );

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    // The canvas cannot read CSS variables: a change of theme draws it anew.
    const plot = new uPlot(options(element.clientWidth), latest.current, element);
    chart.current = plot;
    const observer = new ResizeObserver(() =>
      plot.setSize({ width: element.clientWidth, height: HEIGHT }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
      chart.current = null;
    };
  }, [dark]);

  useEffect(() => {
    latest.current = [time, values];
    chart.current?.setData(latest.current);
  }, [time, values]);

  return <div ref={host} role="img" aria-label={label} className="w-full" />;
}
