"use client";

import { JsonForm } from "@/components/ui/json-form";

interface DefinitionEditorProps {
  initial: unknown;
  submit: string;
  busy: boolean;
  error: unknown;
  onSubmit: (definition: Record<string, unknown>) => void;
}

/** The definition as JSON; the API checks it and says where each fault is. */
export function DefinitionEditor(props: DefinitionEditorProps) {
  return (
    <JsonForm
      label="Definition"
      hint="Triggers, conditions and actions as JSON. It is checked when it is saved."
      rows={26}
      errorTitle="The definition was not saved"
      {...props}
    />
  );
}
