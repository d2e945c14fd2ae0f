"use client";

import { useQuery } from "@tanstack/react-query";
import { useSearchParams } from "next/navigation";

import { DeviceAlarms } from "@/components/devices/device-alarms";
import { DeviceCommands } from "@/components/devices/device-commands";
import { DeviceFacts } from "@/components/devices/device-facts";
import { DeviceHistory } from "@/components/devices/device-history";
import { DeviceLive } from "@/components/devices/device-live";
import { DeviceRejected } from "@/components/devices/device-rejected";
import { DeviceTwin } from "@/components/devices/device-twin";
import { LatestValues } from "@/components/devices/latest-values";
import { useLiveReadings } from "@/components/devices/use-live-readings";
import { LiveBadge } from "@/components/ui/live-badge";
import { PageHeader } from "@/components/ui/page-header";
import { Panel } from "@/components/ui/panel";
import { Loaded } from "@/components/ui/states";
import { StatusBadge } from "@/components/ui/status-badge";
import { Tabs } from "@/components/ui/tabs";
import { deviceDetails } from "@/lib/api/devices";
import type { Device } from "@/lib/api/types";

const POLL_MS = 10_000;
const DEVICES = { href: "/devices/", label: "Devices" };

export function DevicePage() {
  const id = useSearchParams().get("id") ?? "";
  const query = useQuery({ ...deviceDetails(id), refetchInterval: POLL_MS });
  return (
    <>
      {!query.data && <PageHeader title="Device" parent={DEVICES} />}
      <Loaded query={query} title="The device could not be loaded" rows={6}>
        {(device) => <DeviceView key={device.id} device={device} />}
      </Loaded>
    </>
  );
}

function DeviceView({ device }: { device: Device }) {
  const { readings, status } = useLiveReadings(device.id);
  return (
    <>
      <PageHeader
        title={device.name}
        parent={DEVICES}
        meta={<StatusBadge status={device.status} />}
        actions={<LiveBadge status={status} />}
      />
      <div className="grid gap-4 lg:grid-cols-[20rem_minmax(0,1fr)] lg:items-start">
        <div className="grid min-w-0 gap-4 sm:grid-cols-2 lg:grid-cols-1">
          <Panel title="Details">
            <DeviceFacts device={device} />
          </Panel>
          <LatestValues deviceId={device.id} live={readings} />
        </div>
        <Tabs
          label="About this device"
          tabs={[
            {
              id: "live",
              label: "Live",
              content: <DeviceLive deviceId={device.id} live={readings} />,
            },
            { id: "history", label: "History", content: <DeviceHistory deviceId={device.id} /> },
            { id: "commands", label: "Commands", content: <DeviceCommands deviceId={device.id} /> },
            { id: "twin", label: "Twin", content: <DeviceTwin deviceId={device.id} /> },
            { id: "alarms", label: "Alarms", content: <DeviceAlarms deviceId={device.id} /> },
            {
              id: "rejected",
              label: "Rejected messages",
              content: <DeviceRejected deviceId={device.id} />,
            },
          ]}
        />
      </div>
    </>
  );
}
