import Link from "next/link";

import { StatusBadge } from "@/components/ui/status-badge";
import { Row, Table, Td, Th } from "@/components/ui/table";
import { Ago } from "@/components/ui/time";
import type { Device } from "@/lib/api/types";
import { deviceHref } from "@/lib/routes";

export function DeviceTable({ devices }: { devices: readonly Device[] }) {
  return (
    <Table label="Devices">
      <thead>
        <tr>
          <Th>Name</Th>
          <Th>Status</Th>
          <Th className="hidden @md:table-cell">Type</Th>
          <Th className="hidden @2xl:table-cell">Lifecycle</Th>
          <Th>Last seen</Th>
        </tr>
      </thead>
      <tbody>
        {devices.map((device) => (
          <Row key={device.id}>
            <Td>
              <Link
                href={deviceHref(device.id)}
                className="font-medium break-words hover:underline"
              >
                {device.name}
              </Link>
            </Td>
            <Td>
              <StatusBadge status={device.status} />
            </Td>
            <Td className="hidden @md:table-cell">{device.type}</Td>
            <Td className="hidden text-muted @2xl:table-cell">{device.lifecycle}</Td>
            <Td>
              <Ago time={device.last_seen} />
            </Td>
          </Row>
        ))}
      </tbody>
    </Table>
  );
}
