import { Badge } from "@/components/ui/badge";
import { toneOf } from "@/lib/tones";

/** The state of anything the platform has states for. */
export function StatusBadge({ status }: { status: string }) {
  return <Badge tone={toneOf(status)}>{status}</Badge>;
}
