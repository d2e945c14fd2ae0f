/** One fault in a request, and where it is. */
export interface Fault {
  /** JSON pointer into the request body, `""` when the whole is meant. */
  pointer: string;
  message: string;
  hint?: string | null;
}

/** An answer of the API that is not a success: RFC 9457 problem JSON where it sent one. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    /** The API's stable code of the error, `""` when it gave none. */
    readonly code: string,
    readonly title: string,
    readonly detail: string,
    readonly faults: readonly Fault[] = [],
  ) {
    super(detail || title);
  }
}

/** The request never got an answer: no network, or the server is down. */
export class OfflineError extends Error {
  override readonly name = "OfflineError";

  constructor(cause?: unknown) {
    super("The server cannot be reached. Check the connection and try again.", { cause });
  }
}

const TITLES: Record<number, string> = {
  401: "You are not signed in",
  403: "You may not do this",
  404: "Not found",
  409: "It conflicts with what is there",
  422: "The input is not valid",
  429: "Too many requests",
  502: "The server is starting or down",
  503: "The server is starting or down",
};

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function toFault(value: unknown): Fault | null {
  if (typeof value === "string") return { pointer: "", message: value };
  if (!isObject(value)) return null;
  const message = text(value.message) || text(value.detail);
  if (!message) return null;
  const hint = text(value.hint);
  return { pointer: text(value.pointer), message, ...(hint && { hint }) };
}

/** Read an error answer's body, whatever it is; a proxy in between may send HTML. */
export function toApiError(status: number, body: unknown): ApiError {
  const fallback = TITLES[status] ?? (status >= 500 ? "The server failed" : "The request failed");
  if (!isObject(body)) return new ApiError(status, "", fallback, "");
  const faults = Array.isArray(body.errors)
    ? body.errors.map(toFault).filter((fault) => fault !== null)
    : [];
  return new ApiError(
    status,
    text(body.code),
    text(body.title) || fallback,
    text(body.detail),
    faults,
  );
}
