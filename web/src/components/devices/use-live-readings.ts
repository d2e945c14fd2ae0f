"use client";

import { useCallback, useEffect, useRef, useState } from "react";

import type { ChannelStatus, Message } from "@/lib/realtime/channel";
import { useChannel } from "@/lib/realtime/use-channel";
import { appendReadings, type Reading } from "@/lib/series";

const WINDOW = 1000;
/** Screens are drawn this often, however fast a device sends. */
const FLUSH_MS = 200;

/** The readings of a device since this page was opened, newest last, at most a thousand. */
export function useLiveReadings(deviceId: string): {
  readings: readonly Reading[];
  status: ChannelStatus;
} {
  const [readings, setReadings] = useState<readonly Reading[]>([]);
  const arrived = useRef<Reading[]>([]);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);

  const receive = useCallback((message: Message) => {
    if (message.type !== "batch") return;
    arrived.current.push(...(message.payload as Reading[]));
    timer.current ??= setTimeout(() => {
      const batch = arrived.current;
      arrived.current = [];
      timer.current = undefined;
      setReadings((window) => appendReadings(window, batch, WINDOW));
    }, FLUSH_MS);
  }, []);

  useEffect(() => () => clearTimeout(timer.current), []);
  const status = useChannel("/ws/device-data", receive, deviceId);
  return { readings, status };
}
