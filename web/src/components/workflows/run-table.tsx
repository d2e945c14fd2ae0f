"use client";

import { useQuery } from "@tanstack/react-query";
import Link from "next/link";

import { Badge } from "@/components/ui/badge";
import { StatusBadge } from "@/components/ui/status-badge";
import { Row, Table, Td, Th } from "@/components/ui/table";
import { Ago, Elapsed } from "@/components/ui/time";
import { workflowNames } from "@/lib/api/workflows";
import type { Run } from "@/lib/api/types";
import { runHref } from "@/lib/routes";

interface RunTableProps {
  runs: readonly Run[];
  /** Names the automation of each run, where runs of several are listed. */
  withWorkflow?: boolean;
}

export function RunTable({ runs, withWorkflow = false }: RunTableProps) {
  const names = useQuery({ ...workflowNames(), enabled: withWorkflow });
  return (
    <Table label="Runs">
      <thead>
        <tr>
          <Th>{withWorkflow ? "Workflow" : "Started"}</Th>
          <Th>State</Th>
          {withWorkflow && <Th>Started</Th>}
          <Th className="hidden @sm:table-cell">Took</Th>
          <Th className="hidden @2xl:table-cell">Trigger</Th>
          <Th className="hidden text-right @2xl:table-cell">Version</Th>
        </tr>
      </thead>
      <tbody>
        {runs.map((run) => {
          const started = <Ago time={run.started_at} />;
          return (
            <Row key={run.execution_id}>
              <Td>
                <Link href={runHref(run)} className="font-medium hover:underline">
                  {withWorkflow ? (names.data?.get(run.workflow_id) ?? "Run") : started}
                </Link>
              </Td>
              <Td>
                <span className="flex flex-wrap gap-1.5">
                  <StatusBadge status={run.status} />
                  {run.dry_run && <Badge>dry run</Badge>}
                </span>
              </Td>
              {withWorkflow && <Td>{started}</Td>}
              <Td className="hidden @sm:table-cell">
                <Elapsed start={run.started_at} end={run.completed_at} />
              </Td>
              <Td className="hidden text-muted @2xl:table-cell">{triggerText(run.trigger)}</Td>
              <Td className="hidden text-right tabular-nums @2xl:table-cell">{run.version}</Td>
            </Row>
          );
        })}
      </tbody>
    </Table>
  );
}

/** What started a run, in a few words. */
function triggerText({ type, metric, value }: Readonly<Record<string, unknown>>): string {
  if (typeof metric !== "string") return typeof type === "string" ? type : "";
  return typeof value === "number" ? `${metric} = ${value}` : metric;
}
