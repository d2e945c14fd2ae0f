/** A JSON value, to read. */
export function Json({ label, value }: { label: string; value: unknown }) {
  return (
    <pre
      role="group"
      tabIndex={0}
      aria-label={label}
      className="max-h-80 overflow-auto rounded-md border border-line bg-canvas p-2.5 font-mono text-xs leading-5"
    >
      {JSON.stringify(value, null, 2)}
    </pre>
  );
}
