/** The name with its mark: two linked nodes. */
export function Brand() {
  return (
    <span className="flex items-center gap-2 font-semibold tracking-tight">
      <svg aria-hidden viewBox="0 0 20 20" className="size-5 text-accent">
        <path d="M6 14 14 6" stroke="currentColor" strokeWidth="2" />
        <circle cx="5" cy="15" r="3.4" fill="currentColor" />
        <circle cx="15" cy="5" r="3.4" fill="none" stroke="currentColor" strokeWidth="2" />
      </svg>
      IoTLinker
    </span>
  );
}
