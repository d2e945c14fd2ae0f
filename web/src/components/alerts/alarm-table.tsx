"use client";

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Check } from "lucide-react";
import Link from "next/link";

import { Button } from "@/components/ui/button";
import { Failure } from "@/components/ui/states";
import { StatusBadge } from "@/components/ui/status-badge";
import { Row, Table, Td, Th } from "@/components/ui/table";
import { Ago } from "@/components/ui/time";
import { acknowledgeAlarm, alarmsKey } from "@/lib/api/alerts";
import type { Alarm } from "@/lib/api/types";
import { useMay } from "@/lib/auth/permissions";
import { deviceHref } from "@/lib/routes";

export function AlarmTable({ alarms }: { alarms: readonly Alarm[] }) {
  return (
    <Table label="Alarms">
      <thead>
        <tr>
          <Th>Alarm</Th>
          <Th>State</Th>
          <Th className="hidden @sm:table-cell">Raised</Th>
          <Th className="hidden @2xl:table-cell">Source</Th>
          <Th>
            <span className="sr-only">Actions</span>
          </Th>
        </tr>
      </thead>
      <tbody>
        {alarms.map((alarm) => (
          <Row key={alarm.id}>
            <Td className="min-w-32">
              <span className="font-medium">{alarm.name}</span>
              {alarm.count > 1 && <span className="text-muted"> × {alarm.count}</span>}
              {alarm.message && <span className="block text-muted">{alarm.message}</span>}
            </Td>
            <Td>
              <span className="flex flex-wrap gap-1.5">
                <StatusBadge status={alarm.severity} />
                <StatusBadge status={alarm.status} />
              </span>
            </Td>
            <Td className="hidden @sm:table-cell">
              <Ago time={alarm.raised_at} />
            </Td>
            <Td className="hidden @2xl:table-cell">
              {alarm.device_id && (
                <Link
                  href={deviceHref(alarm.device_id)}
                  className="text-accent hover:underline"
                  aria-label={`Device of ${alarm.name}`}
                >
                  Device
                </Link>
              )}
            </Td>
            <Td className="text-right">
              {alarm.status === "raised" && <Acknowledge alarm={alarm} />}
            </Td>
          </Row>
        ))}
      </tbody>
    </Table>
  );
}

function Acknowledge({ alarm }: { alarm: Alarm }) {
  const may = useMay();
  const queries = useQueryClient();
  const mutation = useMutation({
    mutationFn: () => acknowledgeAlarm(alarm.id),
    onSuccess: () => queries.invalidateQueries({ queryKey: alarmsKey }),
  });
  if (!may("alerts:update")) return null;
  return (
    <div className="flex flex-col items-end gap-2">
      <Button
        busy={mutation.isPending}
        onClick={() => mutation.mutate()}
        aria-label={`Acknowledge ${alarm.name}`}
      >
        {!mutation.isPending && <Check aria-hidden size={15} />}
        <span className="hidden @lg:inline">Acknowledge</span>
      </Button>
      {mutation.error && <Failure error={mutation.error} />}
    </div>
  );
}
