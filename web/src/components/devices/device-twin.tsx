"use client";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { Button } from "@/components/ui/button";
import { JsonForm } from "@/components/ui/json-form";
import { Json } from "@/components/ui/json";
import { Panel } from "@/components/ui/panel";
import { Loaded } from "@/components/ui/states";
import { Ago } from "@/components/ui/time";
import { setDesired, twin } from "@/lib/api/devices";
import type { Twin } from "@/lib/api/types";
import { useMay } from "@/lib/auth/permissions";

const POLL_MS = 5_000;

export function DeviceTwin({ deviceId }: { deviceId: string }) {
  const query = useQuery({ ...twin(deviceId), refetchInterval: POLL_MS });
  return (
    <Loaded query={query} title="The twin could not be loaded">
      {(state) => (
        <div className="grid gap-4 xl:grid-cols-2">
          <Panel
            title="Desired"
            actions={<Version version={state.desired.version} time={state.desired.updated_at} />}
          >
            <Desired state={state} />
          </Panel>
          <Panel
            title="Reported"
            actions={<Version version={state.reported.version} time={state.reported.updated_at} />}
          >
            <Json label="Reported state" value={state.reported.state} />
          </Panel>
        </div>
      )}
    </Loaded>
  );
}

function Version({ version, time }: { version: number; time: string | null | undefined }) {
  return (
    <span className="text-sm text-muted">
      version {version}, <Ago time={time} />
    </span>
  );
}

function Desired({ state }: { state: Twin }) {
  const may = useMay();
  const queries = useQueryClient();
  // What the text began as. It stays while others change the twin, so that nothing typed is lost.
  const [base, setBase] = useState(state);
  const saving = useMutation({
    mutationFn: (desired: Record<string, unknown>) => setDesired(base, desired),
    onSuccess: (saved) => {
      setBase(saved);
      queries.setQueryData(twin(saved.device_id).queryKey, saved);
    },
  });
  if (!may("devices:update")) return <Json label="Desired state" value={state.desired.state} />;
  return (
    <div className="flex flex-col gap-3">
      {state.desired.version > base.desired.version && (
        <div role="status" className="flex flex-wrap items-center justify-between gap-2 text-warn">
          It has been changed meanwhile.
          <Button onClick={() => setBase(state)}>Load version {state.desired.version}</Button>
        </div>
      )}
      <JsonForm
        key={base.desired.version}
        label="Desired state"
        hint="The device gets it at once, or when it connects."
        initial={base.desired.state}
        rows={8}
        submit="Save desired state"
        busy={saving.isPending}
        error={saving.error}
        errorTitle="The desired state was not saved"
        onSubmit={(desired) => saving.mutate(desired)}
      />
    </div>
  );
}
