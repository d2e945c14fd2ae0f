import { Facts } from "@/components/ui/facts";
import { Json } from "@/components/ui/json";
import { StatusBadge } from "@/components/ui/status-badge";
import { Ago } from "@/components/ui/time";
import type { Device } from "@/lib/api/types";

export function DeviceFacts({ device }: { device: Device }) {
  const details = { location: device.location, metadata: device.metadata };
  const hasDetails = device.location !== null || Object.keys(device.metadata).length > 0;
  return (
    <div className="flex flex-col gap-3">
      <Facts
        facts={[
          ["Type", device.type],
          ["Lifecycle", <StatusBadge key="lifecycle" status={device.lifecycle} />],
          ["Last seen", <Ago key="seen" time={device.last_seen} />],
          ["Created", <Ago key="created" time={device.created_at} />],
          [
            "Id",
            <code key="id" className="font-mono text-xs break-all select-all">
              {device.id}
            </code>,
          ],
        ]}
      />
      {hasDetails && <Json label="Location and metadata" value={details} />}
    </div>
  );
}
