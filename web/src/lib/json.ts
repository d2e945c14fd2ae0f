export type Parsed = { ok: true; value: Record<string, unknown> } | { ok: false; message: string };

/** Read a JSON object that a person typed; the message says what to mend. */
export function parseObject(text: string): Parsed {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return {
      ok: false,
      message: `This is not JSON: ${error instanceof Error ? error.message : ""}`,
    };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { ok: false, message: "This must be a JSON object: { … }" };
  }
  return { ok: true, value: value as Record<string, unknown> };
}
