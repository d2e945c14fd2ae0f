"use client";

import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { AlarmTable } from "@/components/alerts/alarm-table";
import { Field, Select } from "@/components/ui/field";
import { LiveBadge } from "@/components/ui/live-badge";
import { PageHeader } from "@/components/ui/page-header";
import { Pagination } from "@/components/ui/pagination";
import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { ALARM_STATUSES, alarmList, alarmsKey } from "@/lib/api/alerts";
import { useLiveQueries } from "@/lib/realtime/use-live-queries";
import { useSearchState } from "@/lib/use-search-state";

const POLL_MS = 10_000;
const PAUSE_MS = 300;
const KEYS = [alarmsKey];

export function AlertsPage() {
  const [get, set] = useSearchState();
  const live = useLiveQueries("/ws/alerts", KEYS, PAUSE_MS);
  const status = get("status");
  const query = useQuery({
    ...alarmList({ page: Number(get("page")) || 1, status }),
    placeholderData: keepPreviousData,
    refetchInterval: live === "live" ? false : POLL_MS,
  });
  const filter = (
    <Field label="State" hideLabel>
      {(control) => (
        <Select
          {...control}
          value={status}
          onChange={(event) => set({ status: event.target.value, page: "" })}
        >
          <option value="">Any state</option>
          {ALARM_STATUSES.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </Select>
      )}
    </Field>
  );
  return (
    <>
      <PageHeader title="Alerts" actions={<LiveBadge status={live} />} />
      <Panel title="Alarms" flush actions={filter}>
        <Loaded query={query} title="The alarms could not be loaded" rows={6}>
          {({ alerts, pagination }) => (
            <>
              {alerts.length > 0 && <AlarmTable alarms={alerts} />}
              {alerts.length === 0 && (
                <Empty title={status ? `No alarm is ${status}` : "No alarms"}>
                  Automations raise alarms with the step “alarm”.
                </Empty>
              )}
              <Pagination
                page={pagination.page}
                pages={pagination.total_pages}
                total={pagination.total}
                noun={pagination.total === 1 ? "alarm" : "alarms"}
                onPage={(next) => set({ page: next > 1 ? String(next) : "" })}
              />
            </>
          )}
        </Loaded>
      </Panel>
    </>
  );
}
