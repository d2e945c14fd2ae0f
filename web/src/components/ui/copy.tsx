"use client";

import { Check, Copy as CopyIcon } from "lucide-react";
import { useEffect, useState } from "react";

import { Button } from "@/components/ui/button";

const SHOWN_MS = 2000;

/** Text to take away: a key, an address, a command line. */
export function Copyable({ label, value }: { label: string; value: string }) {
  const [state, setState] = useState<"idle" | "copied" | "refused">("idle");

  useEffect(() => {
    if (state === "idle") return;
    const timer = setTimeout(() => setState("idle"), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [state]);

  async function copy() {
    try {
      // Absent on plain HTTP from another machine; the text can still be selected by hand.
      await navigator.clipboard.writeText(value);
      setState("copied");
    } catch {
      setState("refused");
    }
  }

  return (
    <div className="flex flex-col gap-1">
      <span className="text-sm font-medium">{label}</span>
      <div className="flex items-start gap-2">
        <pre
          role="group"
          tabIndex={0}
          aria-label={label}
          className="min-w-0 flex-1 overflow-x-auto rounded-md border border-line bg-canvas px-2.5 py-1.5 font-mono text-sm select-all"
        >
          {value}
        </pre>
        <Button onClick={() => void copy()} aria-label={`Copy ${label.toLowerCase()}`}>
          {state === "copied" ? (
            <Check aria-hidden size={14} />
          ) : (
            <CopyIcon aria-hidden size={14} />
          )}
          {state === "copied" ? "Copied" : state === "refused" ? "Select it" : "Copy"}
        </Button>
      </div>
      <span role="status" className="sr-only">
        {state === "copied" && `${label} copied`}
        {state === "refused" && "The browser does not allow copying here; select the text"}
      </span>
    </div>
  );
}
