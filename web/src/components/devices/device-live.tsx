"use client";

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";

import { MetricCharts } from "@/components/charts/metric-charts";
import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { recentReadings } from "@/lib/api/telemetry";
import { toSeries, type Reading } from "@/lib/series";

interface DeviceLiveProps {
  deviceId: string;
  live: readonly Reading[];
}

/** The last quarter of an hour, going on as the device sends. */
export function DeviceLive({ deviceId, live }: DeviceLiveProps) {
  const query = useQuery(recentReadings(deviceId));
  const series = useMemo(() => toSeries([...(query.data ?? []), ...live]), [query.data, live]);
  return (
    <Panel title="Live">
      <Loaded query={query} title="The recent measurements could not be loaded" rows={5}>
        {() =>
          series.time.length === 0 ? (
            <Empty title="Waiting for measurements">
              Nothing came in the last 15 minutes. What the device sends appears here at once.
            </Empty>
          ) : (
            <MetricCharts series={series} />
          )
        }
      </Loaded>
    </Panel>
  );
}
