"use client";

import { useQueryClient, type QueryKey } from "@tanstack/react-query";
import { useCallback, useEffect, useRef } from "react";

import type { ChannelStatus } from "@/lib/realtime/channel";
import { useChannel } from "@/lib/realtime/use-channel";

/**
 * Load queries again when the tenant's event channel says that something happened.
 *
 * @param keys What to load again, in full or by their first parts; the same array at every call.
 * @param pauseMs Events within this time of the first are answered together: a fleet that
 *   reconnects sends thousands.
 */
export function useLiveQueries(
  path: "/ws/alerts" | "/ws/dashboard",
  keys: readonly QueryKey[],
  pauseMs: number,
): ChannelStatus {
  const queries = useQueryClient();
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);

  const receive = useCallback(() => {
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      for (const queryKey of keys) void queries.invalidateQueries({ queryKey });
    }, pauseMs);
  }, [queries, keys, pauseMs]);

  useEffect(
    () => () => {
      clearTimeout(timer.current);
      timer.current = undefined;
    },
    [],
  );
  return useChannel(path, receive);
}
