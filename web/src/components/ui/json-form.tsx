"use client";

import { useState, type ReactNode } from "react";

import { Button } from "@/components/ui/button";
import { Field, Textarea } from "@/components/ui/field";
import { Failure } from "@/components/ui/states";
import { parseObject } from "@/lib/json";

interface JsonFormProps {
  label: string;
  hint?: ReactNode;
  /** What the text is at first; a new one does not overwrite what was typed. */
  initial: unknown;
  rows?: number;
  submit: string;
  busy: boolean;
  error: unknown;
  errorTitle: string;
  /** Other controls of the form. */
  before?: ReactNode;
  onSubmit: (value: Record<string, unknown>) => void;
}

/** A JSON object to type, checked for its form before it is sent. */
export function JsonForm({
  label,
  hint,
  initial,
  rows = 6,
  submit,
  busy,
  error,
  errorTitle,
  before,
  onSubmit,
}: JsonFormProps) {
  const [text, setText] = useState(() => JSON.stringify(initial, null, 2));
  const [fault, setFault] = useState<string>();

  return (
    <form
      className="flex flex-col gap-3"
      onSubmit={(event) => {
        event.preventDefault();
        const parsed = parseObject(text);
        setFault(parsed.ok ? undefined : parsed.message);
        if (parsed.ok) onSubmit(parsed.value);
      }}
    >
      {before}
      <Field label={label} hint={hint} error={fault}>
        {(control) => (
          <Textarea
            {...control}
            rows={rows}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        )}
      </Field>
      {error != null && <Failure error={error} title={errorTitle} />}
      <div>
        <Button type="submit" variant="primary" busy={busy}>
          {submit}
        </Button>
      </div>
    </form>
  );
}
