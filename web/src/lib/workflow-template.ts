/** Where a new workflow starts: small, valid, and showing the shape of the language. */
export const TEMPLATE = {
  name: "Temperature too high",
  description: "Raises an alarm when a sensor stays too hot for a minute.",
  triggers: [
    { type: "manual" },
    {
      type: "telemetry",
      device_type: "sensor",
      metric: "temperature",
      when: { op: ">", value: 80 },
      for: "PT1M",
      hysteresis: 2,
      cooldown: "PT10M",
    },
  ],
  actions: [
    {
      id: "raise",
      type: "alarm",
      with: { name: "Overheating", severity: "critical", message: "Temperature is above 80 °C" },
    },
  ],
};
