/**
 * The typed client of the REST API.
 *
 * Every call goes through `authorizedFetch`: it adds the access token, refreshes it once on 401,
 * bounds the wait, and turns a missing answer into an `OfflineError`.
 */
import createClient from "openapi-fetch";

import { currentToken, refresh } from "@/lib/auth/session";
import { OfflineError, toApiError } from "@/lib/api/problem";
import type { paths } from "@/lib/api/schema";

const TIMEOUT_MS = 30_000;

async function send(request: Request, token: string | null): Promise<Response> {
  // A request's body can be read once: the copy keeps the original for the second try.
  const attempt = request.clone();
  if (token) attempt.headers.set("authorization", `Bearer ${token}`);
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(TIMEOUT_MS)]);
  try {
    return await fetch(attempt, { signal });
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw new OfflineError(error);
  }
}

export async function authorizedFetch(request: Request): Promise<Response> {
  const used = currentToken() ?? (await refresh());
  const response = await send(request, used);
  if (response.status !== 401) return response;
  // Another request may have refreshed while this one was under way; its token is then good.
  const known = currentToken();
  const token = known !== null && known !== used ? known : await refresh();
  return token === null ? response : send(request, token);
}

export const api = createClient<paths>({ baseUrl: "", fetch: authorizedFetch });

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/**
 * Wait for a call and return its data.
 *
 * @throws ApiError for any answer that is not a success, OfflineError without an answer.
 */
export async function unwrap<T>(call: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok) throw toApiError(response.status, error);
  return data as T;
}
