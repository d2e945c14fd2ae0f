"use client";

import { useEffect, useState } from "react";

import { Field, Input, Select } from "@/components/ui/field";

const STATUSES = ["online", "offline", "warning", "error"] as const;
/** Long enough that a word typed is one request. */
const PAUSE_MS = 250;

interface DeviceFiltersProps {
  search: string;
  status: string;
  onChange: (changes: { search?: string; status?: string }) => void;
}

export function DeviceFilters({ search, status, onChange }: DeviceFiltersProps) {
  const [typed, setTyped] = useState(search);

  useEffect(() => {
    if (typed === search) return;
    const timer = setTimeout(() => onChange({ search: typed }), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [typed, search, onChange]);

  return (
    <search className="grid w-full grid-cols-[minmax(0,1fr)_auto] gap-2 sm:w-auto">
      <Field label="Search by name" hideLabel>
        {(control) => (
          <Input
            {...control}
            type="search"
            placeholder="Search by name"
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
          />
        )}
      </Field>
      <Field label="Status" hideLabel>
        {(control) => (
          <Select
            {...control}
            value={status}
            onChange={(event) => onChange({ status: event.target.value })}
          >
            <option value="">Any status</option>
            {STATUSES.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </Select>
        )}
      </Field>
    </search>
  );
}
