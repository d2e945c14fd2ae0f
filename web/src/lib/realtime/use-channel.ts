"use client";

import { useEffect, useEffectEvent, useState } from "react";

import { freshToken } from "@/lib/auth/session";
import { openChannel, type ChannelStatus, type Message } from "@/lib/realtime/channel";

/**
 * Subscribe while the component is on screen.
 *
 * @param path The endpoint; the channel's name is its last part.
 * @param deviceId Limits the subscription to one device.
 * @returns Whether messages are arriving; poll while it is not "live".
 */
export function useChannel(
  path: "/ws/device-data" | "/ws/alerts" | "/ws/dashboard",
  onMessage: (message: Message) => void,
  deviceId?: string,
): ChannelStatus {
  const [status, setStatus] = useState<ChannelStatus>("connecting");
  const handle = useEffectEvent(onMessage);
  useEffect(
    () =>
      openChannel({
        path,
        channel: path.slice("/ws/".length),
        payload: deviceId ? { device_id: deviceId, batch: true } : {},
        token: freshToken,
        onMessage: (message) => handle(message),
        onStatus: setStatus,
      }),
    [path, deviceId],
  );
  return status;
}
