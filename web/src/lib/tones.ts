/** Which colour repeats which word. A word that is new here shows without colour, not wrongly. */
import type { Tone } from "@/components/ui/badge";

const TONES: Readonly<Record<string, Tone>> = {
  // devices
  online: "good",
  offline: "neutral",
  warning: "warn",
  error: "bad",
  // their lifecycle
  active: "good",
  registered: "neutral",
  pending: "neutral",
  expired: "warn",
  decommissioned: "neutral",
  // runs and steps
  running: "accent",
  waiting: "warn",
  completed: "good",
  failed: "bad",
  cancelled: "neutral",
  skipped: "neutral",
  // alarms
  critical: "bad",
  info: "accent",
  raised: "bad",
  acknowledged: "warn",
  cleared: "good",
  // commands
  sent: "accent",
  answered: "good",
};

export function toneOf(word: string): Tone {
  return TONES[word] ?? "neutral";
}
