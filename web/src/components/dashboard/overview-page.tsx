"use client";

import { useQuery } from "@tanstack/react-query";
import Link from "next/link";
import type { ReactNode } from "react";

import { AlarmTable } from "@/components/alerts/alarm-table";
import { LiveBadge } from "@/components/ui/live-badge";
import { PageHeader } from "@/components/ui/page-header";
import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { StatusBadge } from "@/components/ui/status-badge";
import { RunTable } from "@/components/workflows/run-table";
import { alarmList, alarmsKey } from "@/lib/api/alerts";
import { devicesKey } from "@/lib/api/devices";
import { deviceCounts, runCounts } from "@/lib/api/overview";
import { allRuns, runsKey } from "@/lib/api/workflows";
import { formatCount } from "@/lib/format";
import { useLiveQueries } from "@/lib/realtime/use-live-queries";

const RECENT = 8;
/** Without the live channel; with it, a safety net for an event that got lost. */
const POLL_MS = 5_000;
const LIVE_POLL_MS = 60_000;
const PAUSE_MS = 1_000;
const KEYS = [devicesKey, alarmsKey, runsKey];

export function OverviewPage() {
  const live = useLiveQueries("/ws/dashboard", KEYS, PAUSE_MS);
  const refetchInterval = live === "live" ? LIVE_POLL_MS : POLL_MS;
  const devices = useQuery({ ...deviceCounts(), refetchInterval });
  const open = useQuery({ ...alarmList({ status: "raised", limit: 1 }), refetchInterval });
  const counts = useQuery({ ...runCounts(), refetchInterval });
  const alarms = useQuery({ ...alarmList({ limit: RECENT }), refetchInterval });
  const runs = useQuery({ ...allRuns({ limit: RECENT }), refetchInterval });

  return (
    <>
      <PageHeader title="Overview" actions={<LiveBadge status={live} />} />
      <div className="grid grid-cols-2 gap-4 lg:grid-cols-[1fr_1fr_2fr]">
        <Panel title="Devices online">
          <Loaded query={devices} title="The devices could not be counted" rows={1}>
            {({ online, total }) => (
              <Figure
                href="/devices/"
                value={formatCount(online)}
                of={`of ${formatCount(total)}`}
              />
            )}
          </Loaded>
        </Panel>
        <Panel title="Open alarms">
          <Loaded query={open} title="The alarms could not be counted" rows={1}>
            {({ pagination }) => (
              <Figure
                href="/alerts/?status=raised"
                value={formatCount(pagination.total)}
                of="not acknowledged"
              />
            )}
          </Loaded>
        </Panel>
        <Panel title="Runs" className="col-span-2 lg:col-span-1">
          <Loaded query={counts} title="The runs could not be counted" rows={1}>
            {(states) => (
              <ul className="flex flex-wrap gap-x-5 gap-y-2">
                {states.map(({ status, total }) => (
                  <li key={status} className="flex items-center gap-2">
                    <StatusBadge status={status} />
                    <span className="text-lg font-semibold tabular-nums">{formatCount(total)}</span>
                  </li>
                ))}
              </ul>
            )}
          </Loaded>
        </Panel>
      </div>
      <div className="mt-4 grid gap-4 xl:grid-cols-2 xl:items-start">
        <Panel title="Recent runs" flush>
          <Loaded query={runs} title="The runs could not be loaded" rows={5}>
            {({ executions }) =>
              executions.length === 0 ? (
                <Empty title="Nothing has run yet">
                  <More href="/workflows/">Go to the workflows</More>
                </Empty>
              ) : (
                <RunTable runs={executions} withWorkflow />
              )
            }
          </Loaded>
        </Panel>
        <Panel title="Recent alarms" flush actions={<More href="/alerts/">All alarms</More>}>
          <Loaded query={alarms} title="The alarms could not be loaded" rows={5}>
            {({ alerts }) =>
              alerts.length === 0 ? (
                <Empty title="No alarms">All is quiet.</Empty>
              ) : (
                <AlarmTable alarms={alerts} />
              )
            }
          </Loaded>
        </Panel>
      </div>
    </>
  );
}

function Figure({ href, value, of }: { href: string; value: string; of: string }) {
  return (
    <Link href={href} className="inline-flex items-baseline gap-2 rounded hover:underline">
      <span className="text-2xl font-semibold tabular-nums">{value}</span>
      <span className="text-muted">{of}</span>
    </Link>
  );
}

function More({ href, children }: { href: string; children: ReactNode }) {
  return (
    <Link href={href} className="text-accent hover:underline">
      {children}
    </Link>
  );
}
