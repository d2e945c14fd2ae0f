/**
 * One subscription over one WebSocket, kept alive.
 *
 * Protocol: the first message authenticates, the second subscribes; the server answers both in kind
 * and then sends `data` and `alert` messages, and `error` for what it refuses. A lost connection is
 * made again after growing pauses.
 */

export type ChannelStatus = "connecting" | "live" | "offline";

export interface Message {
  type: string;
  channel: string;
  payload: unknown;
  timestamp?: string;
}

export interface ChannelOptions {
  /** Path of the endpoint, `/ws/…`. */
  path: string;
  channel: string;
  /** What to subscribe to. */
  payload: Record<string, unknown>;
  /** Gives a token that is valid now; null ends the channel. */
  token: () => Promise<string | null>;
  onMessage: (message: Message) => void;
  onStatus: (status: ChannelStatus) => void;
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** How long before the token's end a new one is sent, so that the connection outlives it. */
const RENEWAL_MS = 45_000;

function parse(data: unknown): Message | null {
  if (typeof data !== "string") return null;
  try {
    const value: unknown = JSON.parse(data);
    return typeof value === "object" && value !== null && "type" in value
      ? (value as Message)
      : null;
  } catch {
    return null;
  }
}

/** Open the channel; call the returned function to close it for good. */
export function openChannel(options: ChannelOptions): () => void {
  let socket: WebSocket | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let renewal: ReturnType<typeof setTimeout> | undefined;
  let pause = FIRST_PAUSE_MS;
  let closed = false;

  function retry(): void {
    if (closed) return;
    options.onStatus("offline");
    // Jitter: after a restart of the server its clients must not all come back at once.
    timer = setTimeout(() => void connect(), pause * (0.5 + Math.random()));
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }

  async function connect(): Promise<void> {
    options.onStatus("connecting");
    let token: string | null;
    try {
      token = await options.token();
    } catch {
      retry();
      return;
    }
    if (closed) return;
    if (token === null) {
      options.onStatus("offline");
      return;
    }
    const opened = new WebSocket(options.path);
    socket = opened;
    const send = (type: string, channel: string, payload: Record<string, unknown>) =>
      opened.send(JSON.stringify({ type, channel, payload }));
    const renew = async () => {
      // Without a token now, the server will close the connection and `retry` takes over.
      const next = await options.token().catch(() => null);
      if (next !== null && opened.readyState === WebSocket.OPEN) send("auth", "", { token: next });
    };
    opened.onopen = () => {
      send("auth", "", { token });
      send("subscribe", options.channel, options.payload);
    };
    opened.onmessage = (event) => {
      const message = parse(event.data);
      if (!message) return;
      if (message.type === "auth") {
        const { expires_at: end } = message.payload as { expires_at: number };
        clearTimeout(renewal);
        renewal = setTimeout(() => void renew(), Math.max(0, end * 1000 - Date.now() - RENEWAL_MS));
        return;
      }
      if (message.type !== "error") {
        pause = FIRST_PAUSE_MS;
        options.onStatus("live");
      }
      options.onMessage(message);
    };
    opened.onclose = () => {
      clearTimeout(renewal);
      retry();
    };
  }

  void connect();
  return () => {
    closed = true;
    clearTimeout(timer);
    clearTimeout(renewal);
    socket?.close();
  };
}
