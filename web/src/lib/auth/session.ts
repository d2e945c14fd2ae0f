/**
 * The signed-in session of this tab.
 *
 * The access token lives in memory only. The refresh token lives in sessionStorage, so that a
 * reload keeps the session and closing the tab ends it. Refresh tokens rotate: each is good for
 * one use, so two requests that find the access token expired must share one refresh.
 */
import { create } from "zustand";

import { ApiError, OfflineError, toApiError } from "@/lib/api/problem";
import type { Me, SignIn, Tokens } from "@/lib/api/types";

const STORAGE_KEY = "iotlinker.refresh-token";
const TIMEOUT_MS = 15_000;
const EXPIRY_MARGIN_MS = 60_000;

type Status = "unknown" | "anonymous" | "signed-in";

interface SessionState {
  status: Status;
  me: Me | null;
}

export const useSession = create<SessionState>()(() => ({ status: "unknown", me: null }));

let accessToken: string | null = null;
let expiresAt = 0;
let refreshing: Promise<string | null> | null = null;

export function currentToken(): string | null {
  return accessToken;
}

/** A token with time left on it, for a WebSocket that cannot answer 401 and try again. */
export async function freshToken(): Promise<string | null> {
  return accessToken !== null && Date.now() < expiresAt - EXPIRY_MARGIN_MS
    ? accessToken
    : refresh();
}

async function post<T>(path: string, body: unknown): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(accessToken && { authorization: `Bearer ${accessToken}` }),
      },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    throw new OfflineError(error);
  }
  const answer: unknown = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw toApiError(response.status, answer);
  return answer as T;
}

async function loadMe(token: string): Promise<Me> {
  let response: Response;
  try {
    response = await fetch("/api/v1/auth/me", {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    throw new OfflineError(error);
  }
  const answer: unknown = await response.json().catch(() => null);
  if (!response.ok) throw toApiError(response.status, answer);
  return answer as Me;
}

function keep(tokens: Tokens): string {
  accessToken = tokens.access_token;
  expiresAt = Date.now() + tokens.expires_in * 1000;
  sessionStorage.setItem(STORAGE_KEY, tokens.refresh_token);
  return tokens.access_token;
}

/** Forget the session in this tab, without telling the server. */
export function forget(): void {
  accessToken = null;
  sessionStorage.removeItem(STORAGE_KEY);
  useSession.setState({ status: "anonymous", me: null });
}

/**
 * Sign in and load the user.
 *
 * @throws ApiError when the credentials are refused, OfflineError without an answer.
 */
export async function signIn(credentials: SignIn): Promise<void> {
  const token = keep(await post<Tokens>("/api/v1/auth/login", credentials));
  const me = await loadMe(token);
  useSession.setState({ status: "signed-in", me });
}

/** End the session here and on the server; the tab is signed out even if the server is away. */
export async function signOut(): Promise<void> {
  try {
    if ((await freshToken()) !== null) await post("/api/v1/auth/logout", null);
  } catch (error) {
    if (!(error instanceof ApiError || error instanceof OfflineError)) throw error;
  } finally {
    forget();
  }
}

/**
 * Exchange the refresh token for a new access token; concurrent callers share one exchange.
 *
 * @returns The access token, or null when the session is over.
 * @throws OfflineError, or ApiError for a failure that says nothing about the session (429, 5xx):
 *   the session is kept for a later try.
 */
export function refresh(): Promise<string | null> {
  refreshing ??= exchange().finally(() => {
    refreshing = null;
  });
  return refreshing;
}

async function exchange(): Promise<string | null> {
  const refreshToken = sessionStorage.getItem(STORAGE_KEY);
  if (!refreshToken) {
    forget();
    return null;
  }
  try {
    accessToken = null;
    return keep(await post<Tokens>("/api/v1/auth/refresh", { refresh_token: refreshToken }));
  } catch (error) {
    if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
      forget();
      return null;
    }
    throw error;
  }
}

/**
 * Take up the session that a reload left behind.
 *
 * @throws OfflineError or ApiError when the server cannot say; the session is kept.
 */
export async function restore(): Promise<void> {
  if (useSession.getState().status !== "unknown") return;
  const token = await refresh();
  if (token === null) return;
  const me = await loadMe(token);
  useSession.setState({ status: "signed-in", me });
}
