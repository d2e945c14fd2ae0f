"use client";

import { useQuery } from "@tanstack/react-query";

import { Panel } from "@/components/ui/panel";
import { Empty, Loaded } from "@/components/ui/states";
import { Row, Table, Td, Th } from "@/components/ui/table";
import { Ago } from "@/components/ui/time";
import { deadLetters } from "@/lib/api/devices";

/** What the device sent and could not be stored, and why. */
export function DeviceRejected({ deviceId }: { deviceId: string }) {
  const query = useQuery(deadLetters(deviceId));
  return (
    <Panel title="Rejected messages" flush>
      <Loaded query={query} title="The rejected messages could not be loaded">
        {(letters) =>
          letters.length === 0 ? (
            <Empty title="Nothing was rejected">
              Messages that cannot be stored are kept here with the reason.
            </Empty>
          ) : (
            <Table label="Rejected messages">
              <thead>
                <tr>
                  <Th>Received</Th>
                  <Th>Reason</Th>
                  <Th>Message</Th>
                </tr>
              </thead>
              <tbody>
                {letters.map((letter) => (
                  <Row key={letter.id}>
                    <Td>
                      <Ago time={letter.received_at} />
                    </Td>
                    <Td>
                      {letter.message}
                      <span className="block font-mono text-xs text-muted">
                        {letter.code} {letter.pointer}
                      </span>
                    </Td>
                    <Td>
                      <span className="block font-mono text-xs break-all text-muted">
                        {letter.topic}
                      </span>
                      <code className="font-mono text-xs break-all">{letter.payload}</code>
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
