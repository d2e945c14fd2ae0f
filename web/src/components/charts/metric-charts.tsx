"use client";

import dynamic from "next/dynamic";
import { useState } from "react";

import { cx } from "@/lib/cx";
import { formatNumber } from "@/lib/format";
import { summarize, type Series } from "@/lib/series";

const LineChart = dynamic(() => import("@/components/charts/line-chart"), {
  ssr: false,
  loading: () => <div className="h-[150px] animate-pulse rounded bg-raised" />,
});

const SHOWN_AT_FIRST = 4;

/**
 * One small chart a metric, since sensors of one device rarely share a scale; their cursors move
 * together. With many metrics the user chooses.
 */
export function MetricCharts({ series }: { series: Series }) {
  const names = [...series.columns.keys()];
  const [chosen, setChosen] = useState<readonly string[] | null>(null);
  const shown =
    chosen?.filter((name) => series.columns.has(name)) ?? names.slice(0, SHOWN_AT_FIRST);

  function toggle(name: string) {
    setChosen(shown.includes(name) ? shown.filter((other) => other !== name) : [...shown, name]);
  }

  return (
    <div className="flex flex-col gap-4">
      {names.length > 1 && (
        <div role="group" aria-label="Metrics shown" className="flex flex-wrap gap-1.5">
          {names.map((name) => (
            <button
              key={name}
              type="button"
              aria-pressed={shown.includes(name)}
              onClick={() => toggle(name)}
              className={cx(
                "rounded-full border px-2.5 text-sm leading-6",
                shown.includes(name)
                  ? "border-accent/50 bg-accent/8 text-accent"
                  : "border-line text-muted hover:text-ink",
              )}
            >
              {name}
            </button>
          ))}
        </div>
      )}
      <div className="grid gap-x-6 gap-y-4 lg:grid-cols-2">
        {names
          .filter((name) => shown.includes(name))
          .map((name) => (
            <MetricChart key={name} name={name} series={series} />
          ))}
      </div>
    </div>
  );
}

function MetricChart({ name, series }: { name: string; series: Series }) {
  const values = series.columns.get(name) ?? [];
  const summary = summarize(values);
  const label = summary
    ? `${name}: latest ${formatNumber(summary.latest)}, lowest ${formatNumber(summary.lowest)}, highest ${formatNumber(summary.highest)}`
    : `${name}: no values`;
  return (
    <figure className="min-w-0">
      <figcaption className="flex items-baseline justify-between gap-3 pb-1">
        <span className="truncate font-medium">{name}</span>
        <span className="text-sm text-muted tabular-nums">
          <span className="mr-2 font-medium text-ink">{formatNumber(summary?.latest)}</span>{" "}
          {formatNumber(summary?.lowest)} … {formatNumber(summary?.highest)}
        </span>
      </figcaption>
      <LineChart label={label} time={series.time} values={values} />
    </figure>
  );
}
