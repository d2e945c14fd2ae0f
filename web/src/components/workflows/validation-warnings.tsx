import { FaultList } from "@/components/ui/states";
import type { Finding } from "@/lib/api/types";

/** What the API accepted and doubts. */
export function ValidationWarnings({ warnings }: { warnings: readonly Finding[] }) {
  if (warnings.length === 0) return null;
  return (
    <div role="status" className="rounded-md border border-warn/40 bg-warn/5 p-3">
      <p className="mb-1.5 font-medium text-warn">Saved, with doubts</p>
      <FaultList faults={warnings} />
    </div>
  );
}
