"use client";

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import Link from "next/link";

import { Badge } from "@/components/ui/badge";
import { buttonClass } from "@/components/ui/button";
import { PageHeader } from "@/components/ui/page-header";
import { Pagination } from "@/components/ui/pagination";
import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { StatusBadge } from "@/components/ui/status-badge";
import { Row, Table, Td, Th } from "@/components/ui/table";
import { Ago } from "@/components/ui/time";
import { runList, workflowList } from "@/lib/api/workflows";
import type { Workflow } from "@/lib/api/types";
import { useMay } from "@/lib/auth/permissions";
import { runHref, workflowHref } from "@/lib/routes";
import { useSearchState } from "@/lib/use-search-state";

const POLL_MS = 10_000;

export function WorkflowsPage() {
  const [get, set] = useSearchState();
  const may = useMay();
  const query = useQuery({
    ...workflowList(Number(get("page")) || 1),
    placeholderData: keepPreviousData,
    refetchInterval: POLL_MS,
  });
  const create = may("workflows:create") && (
    <Link href="/workflows/new/" className={buttonClass("primary")}>
      New workflow
    </Link>
  );
  return (
    <>
      <PageHeader title="Workflows" actions={create} />
      <Panel title="All workflows" flush>
        <Loaded query={query} title="The workflows could not be loaded" rows={6}>
          {({ workflows, pagination }) =>
            workflows.length === 0 ? (
              <Empty title="No workflows yet">
                <p className="mb-3">
                  A workflow watches telemetry and acts: it asks a model, raises an alarm, sends a
                  command, waits for an approval.
                </p>
                {create}
              </Empty>
            ) : (
              <>
                <WorkflowTable workflows={workflows} />
                <Pagination
                  page={pagination.page}
                  pages={pagination.total_pages}
                  total={pagination.total}
                  noun={pagination.total === 1 ? "workflow" : "workflows"}
                  onPage={(next) => set({ page: next > 1 ? String(next) : "" })}
                />
              </>
            )
          }
        </Loaded>
      </Panel>
    </>
  );
}

function WorkflowTable({ workflows }: { workflows: readonly Workflow[] }) {
  return (
    <Table label="Workflows">
      <thead>
        <tr>
          <Th>Name</Th>
          <Th>State</Th>
          <Th className="hidden text-right @md:table-cell">Version</Th>
          <Th>Last run</Th>
        </tr>
      </thead>
      <tbody>
        {workflows.map((workflow) => (
          <Row key={workflow.id}>
            <Td className="min-w-28">
              <Link href={workflowHref(workflow.id)} className="font-medium hover:underline">
                {workflow.name}
              </Link>
              {workflow.description && (
                <span className="block text-muted">{workflow.description}</span>
              )}
            </Td>
            <Td>
              <Badge tone={workflow.enabled ? "good" : "neutral"}>
                {workflow.enabled ? "enabled" : "disabled"}
              </Badge>
            </Td>
            <Td className="hidden text-right tabular-nums @md:table-cell">
              {workflow.version ?? "–"}
            </Td>
            <Td>
              <LastRun workflowId={workflow.id} />
            </Td>
          </Row>
        ))}
      </tbody>
    </Table>
  );
}

function LastRun({ workflowId }: { workflowId: string }) {
  const { data } = useQuery({ ...runList(workflowId, { limit: 1 }), refetchInterval: POLL_MS });
  const run = data?.executions[0];
  if (!data) return <span className="text-muted">…</span>;
  if (!run) return <span className="text-muted">never</span>;
  return (
    <Link href={runHref(run)} className="flex flex-wrap items-center gap-2 hover:underline">
      <StatusBadge status={run.status} />
      <Ago time={run.started_at} />
    </Link>
  );
}
