/** Devices: what the pages ask and tell the API. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/lib/api/client";
import type { CreatedDevice, DeviceStatus, LatestValue, Twin } from "@/lib/api/types";
import { mergePatch } from "@/lib/merge-patch";

const PAGE = 50;
const NEWEST = 50;
const MOST_PROFILES = 500;

export const devicesKey = ["devices"] as const;

export function deviceList(wanted: { page: number; search: string; status: string }) {
  return queryOptions({
    queryKey: [...devicesKey, "list", wanted],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/api/v1/devices", {
          signal,
          params: {
            query: {
              page: wanted.page,
              limit: PAGE,
              ...(wanted.search && { search: wanted.search }),
              ...(wanted.status && { status: wanted.status as DeviceStatus }),
            },
          },
        }),
      ),
  });
}

export function deviceDetails(id: string) {
  return queryOptions({
    queryKey: [...devicesKey, id],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/api/v1/devices/{device_id}", { signal, params: { path: { device_id: id } } }),
      ),
  });
}

export function profileList() {
  return queryOptions({
    queryKey: ["profiles"],
    queryFn: async ({ signal }) => {
      const { profiles } = await unwrap(
        api.GET("/api/v1/device-profiles", {
          signal,
          params: { query: { limit: MOST_PROFILES } },
        }),
      );
      return profiles;
    },
  });
}

/** Add a type; that another user has just added it is as good. */
export async function createProfile(name: string): Promise<void> {
  const call = await api.POST("/api/v1/device-profiles", { body: { name } });
  if (call.response.status !== 409) await unwrap(Promise.resolve(call));
}

export function createDevice(device: { name: string; type: string }): Promise<CreatedDevice> {
  return unwrap(api.POST("/api/v1/devices", { body: device }));
}

export function latestValues(id: string) {
  return queryOptions({
    queryKey: [...devicesKey, id, "latest"],
    queryFn: async ({ signal }): Promise<LatestValue[]> => {
      const { metrics } = await unwrap(
        api.GET("/api/v1/devices/{device_id}/latest", {
          signal,
          params: { path: { device_id: id } },
        }),
      );
      return Object.entries(metrics).map(([metric, { value, timestamp }]) => ({
        metric,
        value,
        time: timestamp,
      }));
    },
  });
}

export function commandList(id: string) {
  return queryOptions({
    queryKey: [...devicesKey, id, "commands"],
    queryFn: async ({ signal }) => {
      const { commands } = await unwrap(
        api.GET("/api/v1/devices/{device_id}/commands", {
          signal,
          params: { path: { device_id: id }, query: { limit: NEWEST } },
        }),
      );
      return commands;
    },
  });
}

export function sendCommand(
  id: string,
  command: { name: string; payload: Record<string, unknown> },
) {
  return unwrap(
    api.POST("/api/v1/devices/{device_id}/commands", {
      params: { path: { device_id: id } },
      body: command,
    }),
  );
}

export function twin(id: string) {
  return queryOptions({
    queryKey: [...devicesKey, id, "twin"],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/api/v1/devices/{device_id}/twin", {
          signal,
          params: { path: { device_id: id } },
        }),
      ),
  });
}

/** Change the desired state as seen in `from`; refused if somebody else has changed it since. */
export function setDesired(from: Twin, desired: Record<string, unknown>) {
  return unwrap(
    api.PATCH("/api/v1/devices/{device_id}/twin/desired", {
      params: {
        path: { device_id: from.device_id },
        header: { "if-match": `"${from.desired.version}"` },
      },
      body: mergePatch(from.desired.state, desired),
    }),
  );
}

export function deadLetters(id: string) {
  return queryOptions({
    queryKey: [...devicesKey, id, "dead-letters"],
    queryFn: async ({ signal }) => {
      const { dead_letters } = await unwrap(
        api.GET("/api/v1/devices/{device_id}/dead-letters", {
          signal,
          params: { path: { device_id: id }, query: { limit: NEWEST } },
        }),
      );
      return dead_letters;
    },
  });
}
