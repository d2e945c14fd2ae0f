import type { ReactNode } from "react";

import { cx } from "@/lib/cx";

export type Tone = "good" | "warn" | "bad" | "accent" | "neutral";

const TONES: Record<Tone, string> = {
  good: "text-good bg-good/8 border-good/30",
  warn: "text-warn bg-warn/8 border-warn/30",
  bad: "text-bad bg-bad/8 border-bad/30",
  accent: "text-accent bg-accent/8 border-accent/30",
  neutral: "text-muted bg-raised border-line",
};

/** A state in a word. The word carries the meaning; the colour only repeats it. */
export function Badge({ tone = "neutral", children }: { tone?: Tone; children: ReactNode }) {
  return (
    <span
      className={cx(
        "inline-flex items-center gap-1.5 rounded-full border px-2 text-xs leading-5 font-medium",
        "whitespace-nowrap",
        TONES[tone],
      )}
    >
      <span aria-hidden className="size-1.5 rounded-full bg-current" />
      {children}
    </span>
  );
}
