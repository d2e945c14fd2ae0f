"use client";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { Field, Input } from "@/components/ui/field";
import { JsonForm } from "@/components/ui/json-form";
import { Json } from "@/components/ui/json";
import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { StatusBadge } from "@/components/ui/status-badge";
import { Row, Table, Td, Th } from "@/components/ui/table";
import { Ago } from "@/components/ui/time";
import { commandList, sendCommand } from "@/lib/api/devices";
import { useMay } from "@/lib/auth/permissions";

const POLL_MS = 3_000;

export function DeviceCommands({ deviceId }: { deviceId: string }) {
  const may = useMay();
  return (
    <div className="flex flex-col gap-4">
      {may("devices:command") && <SendCommand deviceId={deviceId} />}
      <CommandList deviceId={deviceId} />
    </div>
  );
}

function SendCommand({ deviceId }: { deviceId: string }) {
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const sending = useMutation({
    mutationFn: (payload: Record<string, unknown>) => sendCommand(deviceId, { name, payload }),
    onSuccess: () => queries.invalidateQueries({ queryKey: commandList(deviceId).queryKey }),
  });
  return (
    <Panel title="Send a command">
      <JsonForm
        label="Payload"
        initial={{}}
        rows={3}
        submit="Send command"
        busy={sending.isPending}
        error={sending.error}
        errorTitle="The command was not sent"
        onSubmit={(payload) => sending.mutate(payload)}
        before={
          <Field label="Name" hint="The last part of the topic the device listens to.">
            {(control) => (
              <Input
                {...control}
                required
                autoComplete="off"
                placeholder="throttle"
                value={name}
                onChange={(event) => setName(event.target.value)}
              />
            )}
          </Field>
        }
      />
    </Panel>
  );
}

function CommandList({ deviceId }: { deviceId: string }) {
  const query = useQuery({ ...commandList(deviceId), refetchInterval: POLL_MS });
  return (
    <Panel title="Commands" flush>
      <Loaded query={query} title="The commands could not be loaded">
        {(commands) =>
          commands.length === 0 ? (
            <Empty title="No commands yet">
              A command waits for the device until it expires; the answer appears here.
            </Empty>
          ) : (
            <Table label="Commands">
              <thead>
                <tr>
                  <Th>Name</Th>
                  <Th>State</Th>
                  <Th>Created</Th>
                  <Th>Payload and response</Th>
                </tr>
              </thead>
              <tbody>
                {commands.map((command) => (
                  <Row key={command.id}>
                    <Td className="font-medium">{command.name}</Td>
                    <Td>
                      <StatusBadge status={command.status} />
                    </Td>
                    <Td>
                      <Ago time={command.created_at} />
                    </Td>
                    <Td>
                      <details>
                        <summary className="text-accent">Show</summary>
                        <div className="mt-2 flex flex-col gap-2">
                          <Json label={`Payload of ${command.name}`} value={command.payload} />
                          {command.response && (
                            <Json label={`Response to ${command.name}`} value={command.response} />
                          )}
                        </div>
                      </details>
                    </Td>
                  </Row>
                ))}
              </tbody>
            </Table>
          )
        }
      </Loaded>
    </Panel>
  );
}
