"use client";

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";

import { MetricCharts } from "@/components/charts/metric-charts";
import { Field, Select } from "@/components/ui/field";
import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { AGGREGATIONS, history } from "@/lib/api/telemetry";
import type { Aggregation } from "@/lib/api/types";
import { formatCount } from "@/lib/format";
import { toSeries } from "@/lib/series";

const HOUR = 3_600_000;

/** Each range starts with the aggregation that gives some hundred points. */
const RANGES: readonly { label: string; span: number; aggregation: Aggregation }[] = [
  { label: "Last hour", span: HOUR, aggregation: "none" },
  { label: "Last 6 hours", span: 6 * HOUR, aggregation: "1m" },
  { label: "Last 24 hours", span: 24 * HOUR, aggregation: "5m" },
  { label: "Last 7 days", span: 7 * 24 * HOUR, aggregation: "1h" },
  { label: "Last 30 days", span: 30 * 24 * HOUR, aggregation: "1h" },
  { label: "Last 365 days", span: 365 * 24 * HOUR, aggregation: "1d" },
];

const NAMES: Record<Aggregation, string> = {
  none: "Every value",
  "1m": "Mean of 1 min",
  "5m": "Mean of 5 min",
  "1h": "Mean of 1 h",
  "1d": "Mean of 1 d",
};

export function DeviceHistory({ deviceId }: { deviceId: string }) {
  const [range, setRange] = useState(2);
  const [chosen, setChosen] = useState<Aggregation | null>(null);
  const { span, aggregation: fitting } = RANGES[range]!;
  const aggregation = chosen ?? fitting;
  const query = useQuery({
    ...history(deviceId, span, aggregation),
    placeholderData: keepPreviousData,
  });
  const readings = query.data?.readings;
  const series = useMemo(() => toSeries(readings ?? []), [readings]);

  const controls = (
    <>
      <Field label="Range" hideLabel>
        {(control) => (
          <Select
            {...control}
            value={range}
            onChange={(event) => {
              setRange(Number(event.target.value));
              setChosen(null);
            }}
          >
            {RANGES.map(({ label }, index) => (
              <option key={label} value={index}>
                {label}
              </option>
            ))}
          </Select>
        )}
      </Field>
      <Field label="Aggregation" hideLabel>
        {(control) => (
          <Select
            {...control}
            value={aggregation}
            onChange={(event) => setChosen(event.target.value as Aggregation)}
          >
            {AGGREGATIONS.map((name) => (
              <option key={name} value={name}>
                {NAMES[name]}
              </option>
            ))}
          </Select>
        )}
      </Field>
    </>
  );

  return (
    <Panel title="History" actions={controls}>
      <Loaded query={query} title="The history could not be loaded" rows={5}>
        {({ complete }) =>
          series.time.length === 0 ? (
            <Empty title="No measurements in this range">Choose a longer one.</Empty>
          ) : (
            <div className="flex flex-col gap-3">
              {!complete && (
                <p role="status" className="text-warn">
                  The first {formatCount(series.time.length)} points of this range are shown; choose
                  a coarser aggregation to see all of it.
                </p>
              )}
              <MetricCharts series={series} />
            </div>
          )
        }
      </Loaded>
    </Panel>
  );
}
