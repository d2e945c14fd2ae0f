import { Copyable } from "@/components/ui/copy";
import type { Credentials } from "@/lib/api/types";

/** A shell command that sends a first measurement. */
function publishCommand({ device_id, device_key, mqtt_endpoint }: Credentials): string {
  const endpoint = new URL(mqtt_endpoint);
  const secure = endpoint.protocol === "mqtts:";
  const port = endpoint.port || (secure ? "8883" : "1883");
  return [
    `mosquitto_pub -h ${endpoint.hostname} -p ${port}${secure ? " --tls-use-os-certs" : ""} -q 1`,
    `  -i ${device_id} -u ${device_id} -P '${device_key}'`,
    `  -t v1/devices/${device_id}/telemetry -m '{"temperature": 21.5}'`,
  ].join(" \\\n");
}

export function DeviceCredentials({ credentials }: { credentials: Credentials }) {
  return (
    <div className="flex flex-col gap-3">
      <Copyable label="Device key" value={credentials.device_key} />
      <Copyable label="Device id" value={credentials.device_id} />
      <Copyable label="MQTT endpoint" value={credentials.mqtt_endpoint} />
      <Copyable label="Try it" value={publishCommand(credentials)} />
    </div>
  );
}
