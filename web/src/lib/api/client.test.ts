// @vitest-environment-options { "url": "http://app.test/" }
import { beforeEach, describe, expect, test, vi } from "vitest";

const STORED = "iotlinker.refresh-token";
const URL_DEVICES = "http://app.test/api/v1/devices";

interface Call {
  path: string;
  authorization: string | null;
  body: string;
}

type Handler = (call: Call) => Response | Promise<Response>;

const json = (status: number, body: unknown) => Response.json(body, { status });
const tokens = (name: string) =>
  json(200, {
    access_token: `access-${name}`,
    refresh_token: `refresh-${name}`,
    token_type: "bearer",
    expires_in: 900,
  });

/** Fresh modules with an empty memory, talking to `handler`. */
async function load(handler: Handler) {
  vi.resetModules();
  const calls: Call[] = [];
  vi.stubGlobal("fetch", async (input: Request | string, init?: RequestInit) => {
    const request = new Request(
      typeof input === "string" ? new URL(input, URL_DEVICES) : input,
      init,
    );
    const call = {
      path: new URL(request.url).pathname,
      authorization: request.headers.get("authorization"),
      body: await request.text(),
    };
    calls.push(call);
    return handler(call);
  });
  const { authorizedFetch, unwrap } = await import("@/lib/api/client");
  const session = await import("@/lib/auth/session");
  return { authorizedFetch, unwrap, session, calls };
}

beforeEach(() => {
  sessionStorage.clear();
  sessionStorage.setItem(STORED, "refresh-0");
});

describe("an expired access token", () => {
  test("is refreshed once and the request is sent again with its body", async () => {
    const issued = ["1", "2"];
    let valid = "";
    const { authorizedFetch, session, calls } = await load((call) => {
      if (call.path === "/api/v1/auth/refresh") {
        valid = issued.shift() ?? "";
        return tokens(valid);
      }
      return call.authorization === `Bearer access-${valid}`
        ? json(200, { body: call.body })
        : json(401, {});
    });
    await session.refresh();
    valid = "none: the token has expired";
    const response = await authorizedFetch(
      new Request(URL_DEVICES, { method: "POST", body: "the body" }),
    );
    expect(await response.json()).toEqual({ body: "the body" });
    expect(calls.map((call) => call.path)).toEqual([
      "/api/v1/auth/refresh",
      "/api/v1/devices",
      "/api/v1/auth/refresh",
      "/api/v1/devices",
    ]);
    expect(sessionStorage.getItem(STORED)).toBe("refresh-2");
  });

  test("is refreshed once for all requests under way", async () => {
    let valid = "access-old";
    const { authorizedFetch, session, calls } = await load((call) => {
      if (call.path === "/api/v1/auth/refresh")
        return tokens(valid === "access-old" ? "old" : "new");
      return json(call.authorization === `Bearer ${valid}` ? 200 : 401, {});
    });
    await session.refresh();
    valid = "access-new";
    const answers = await Promise.all(
      [1, 2, 3].map(() => authorizedFetch(new Request(URL_DEVICES))),
    );
    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200]);
    expect(calls.filter((call) => call.path.endsWith("/refresh"))).toHaveLength(2);
  });

  test("that the server keeps refusing is tried no more than twice", async () => {
    const { authorizedFetch, calls } = await load((call) =>
      call.path.endsWith("/refresh") ? tokens("x") : json(401, {}),
    );
    const response = await authorizedFetch(new Request(URL_DEVICES));
    expect(response.status).toBe(401);
    expect(calls.filter((call) => call.path === "/api/v1/devices")).toHaveLength(2);
  });
});

describe("the session", () => {
  test("ends when the refresh token is refused", async () => {
    const { authorizedFetch, session } = await load(() => json(401, {}));
    const response = await authorizedFetch(new Request(URL_DEVICES));
    expect(response.status).toBe(401);
    expect(session.useSession.getState().status).toBe("anonymous");
    expect(sessionStorage.getItem(STORED)).toBeNull();
  });

  test.each([503, 429])("outlives a server that answers %s to the refresh", async (status) => {
    const { authorizedFetch, session } = await load(() => json(status, {}));
    await expect(authorizedFetch(new Request(URL_DEVICES))).rejects.toMatchObject({ status });
    expect(session.useSession.getState().status).toBe("unknown");
    expect(sessionStorage.getItem(STORED)).toBe("refresh-0");
  });

  test("outlives a network that is away", async () => {
    const { authorizedFetch } = await load(() => {
      throw new TypeError("Failed to fetch");
    });
    await expect(authorizedFetch(new Request(URL_DEVICES))).rejects.toMatchObject({
      name: "OfflineError",
    });
    expect(sessionStorage.getItem(STORED)).toBe("refresh-0");
  });

  test("is over in this tab after signing out, even when the server is away", async () => {
    const { session } = await load((call) => {
      if (call.path.endsWith("/refresh")) return tokens("1");
      throw new TypeError("Failed to fetch");
    });
    await session.refresh();
    await session.signOut();
    expect(session.currentToken()).toBeNull();
    expect(sessionStorage.getItem(STORED)).toBeNull();
  });
});

describe("an error answer", () => {
  test("carries the problem's words and where the faults are", async () => {
    const { unwrap } = await load(() => json(500, {}));
    const error = await unwrap(
      Promise.resolve({
        error: {
          title: "Invalid definition",
          status: 422,
          code: "invalid_definition",
          errors: [
            { pointer: "/actions/0/type", message: "unknown step", hint: "did you mean 'if'?" },
          ],
        },
        response: new Response(null, { status: 422 }),
      }),
    ).catch((failure: unknown) => failure);
    expect(error).toMatchObject({
      status: 422,
      code: "invalid_definition",
      title: "Invalid definition",
      faults: [{ pointer: "/actions/0/type", message: "unknown step", hint: "did you mean 'if'?" }],
    });
  });

  test("that is no problem JSON still says what happened", async () => {
    const { unwrap } = await load(() => json(500, {}));
    await expect(
      unwrap(Promise.resolve({ error: "<html>", response: new Response(null, { status: 502 }) })),
    ).rejects.toMatchObject({ status: 502, title: "The server is starting or down" });
  });
});
