"use client";

import { useQuery } from "@tanstack/react-query";

import { AlarmTable } from "@/components/alerts/alarm-table";
import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { alarmList } from "@/lib/api/alerts";

const POLL_MS = 10_000;

export function DeviceAlarms({ deviceId }: { deviceId: string }) {
  const query = useQuery({ ...alarmList({ deviceId }), refetchInterval: POLL_MS });
  return (
    <Panel title="Alarms" flush>
      <Loaded query={query} title="The alarms could not be loaded">
        {({ alerts }) =>
          alerts.length === 0 ? (
            <Empty title="No alarms">Automations raise them with the step “alarm”.</Empty>
          ) : (
            <AlarmTable alarms={alerts} />
          )
        }
      </Loaded>
    </Panel>
  );
}
