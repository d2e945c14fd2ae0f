"use client";

import { useQuery } from "@tanstack/react-query";

import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { Row, Table, Td, Th } from "@/components/ui/table";
import { Ago } from "@/components/ui/time";
import { latestValues } from "@/lib/api/devices";
import type { LatestValue } from "@/lib/api/types";
import { formatNumber } from "@/lib/format";
import { byName, type Reading } from "@/lib/series";

/** Lay what has arrived since over what was stored before. */
function overlay(stored: readonly LatestValue[], live: readonly Reading[]): LatestValue[] {
  const newest = new Map(stored.map((value) => [value.metric, value]));
  for (const { timestamp, metrics } of live) {
    for (const [metric, value] of Object.entries(metrics)) {
      const known = newest.get(metric);
      if (!known || Date.parse(known.time) <= Date.parse(timestamp)) {
        newest.set(metric, { metric, time: timestamp, value });
      }
    }
  }
  return [...newest.values()].sort((a, b) => byName(a.metric, b.metric));
}

interface LatestValuesProps {
  deviceId: string;
  live: readonly Reading[];
}

export function LatestValues({ deviceId, live }: LatestValuesProps) {
  const query = useQuery(latestValues(deviceId));
  return (
    <Panel title="Latest values" flush>
      <Loaded query={query} title="The latest values could not be loaded">
        {(stored) => {
          const values = overlay(stored, live);
          if (values.length === 0) {
            return (
              <Empty title="Nothing measured yet">
                The device has not sent any telemetry so far.
              </Empty>
            );
          }
          return (
            <div className="max-h-96 overflow-y-auto">
              <Table label="Latest values">
                <thead>
                  <tr>
                    <Th>Metric</Th>
                    <Th className="text-right">Value</Th>
                    <Th className="text-right">When</Th>
                  </tr>
                </thead>
                <tbody>
                  {values.map(({ metric, value, time }) => (
                    <Row key={metric}>
                      <Td className="break-all">{metric}</Td>
                      <Td className="text-right font-medium tabular-nums">{formatNumber(value)}</Td>
                      <Td className="text-right text-muted">
                        <Ago time={time} />
                      </Td>
                    </Row>
                  ))}
                </tbody>
              </Table>
            </div>
          );
        }}
      </Loaded>
    </Panel>
  );
}
