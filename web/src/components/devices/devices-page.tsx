"use client";

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { useCallback, useState } from "react";

import { AddDevice } from "@/components/devices/add-device";
import { DeviceFilters } from "@/components/devices/device-filters";
import { DeviceTable } from "@/components/devices/device-table";
import { Button } from "@/components/ui/button";
import { PageHeader } from "@/components/ui/page-header";
import { Pagination } from "@/components/ui/pagination";
import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { deviceList } from "@/lib/api/devices";
import { useSearchState } from "@/lib/use-search-state";

const POLL_MS = 10_000;

export function DevicesPage() {
  const [get, set] = useSearchState();
  const [adding, setAdding] = useState(false);
  const search = get("search");
  const status = get("status");
  const page = Number(get("page")) || 1;
  const query = useQuery({
    ...deviceList({ page, search, status }),
    placeholderData: keepPreviousData,
    refetchInterval: POLL_MS,
  });
  // Another filter is another list: its first page.
  const filter = useCallback(
    (changes: Record<string, string>) => set({ ...changes, page: "" }),
    [set],
  );
  const add = (
    <Button variant="primary" onClick={() => setAdding(true)}>
      <Plus aria-hidden size={15} />
      Add device
    </Button>
  );

  return (
    <>
      <PageHeader title="Devices" actions={add} />
      <Panel
        title="All devices"
        flush
        actions={<DeviceFilters search={search} status={status} onChange={filter} />}
      >
        <Loaded query={query} title="The devices could not be loaded" rows={8}>
          {({ devices, pagination }) => (
            <>
              {devices.length > 0 && <DeviceTable devices={devices} />}
              {devices.length === 0 && (search || status) && (
                <Empty title="No device matches">
                  <Button onClick={() => set({ search: "", status: "", page: "" })}>
                    Show all devices
                  </Button>
                </Empty>
              )}
              {devices.length === 0 && !search && !status && (
                <Empty title="No devices yet">
                  <p className="mb-3">
                    Add a device to get its credentials; it then sends measurements over MQTT.
                  </p>
                  {add}
                </Empty>
              )}
              <Pagination
                page={pagination.page}
                pages={pagination.total_pages}
                total={pagination.total}
                noun={pagination.total === 1 ? "device" : "devices"}
                onPage={(next) => set({ page: next > 1 ? String(next) : "" })}
              />
            </>
          )}
        </Loaded>
      </Panel>
      {adding && <AddDevice onClose={() => setAdding(false)} />}
    </>
  );
}
