import { Badge } from "@/components/ui/badge";
import type { ChannelStatus } from "@/lib/realtime/channel";

/** Whether what is on screen follows the platform as it happens. */
export function LiveBadge({ status }: { status: ChannelStatus }) {
  return (
    <span role="status">
      {status === "live" && <Badge tone="good">live</Badge>}
      {status === "connecting" && <Badge>connecting</Badge>}
      {status === "offline" && <Badge tone="warn">reconnecting</Badge>}
    </span>
  );
}
