import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { openChannel, type ChannelStatus, type Message } from "@/lib/realtime/channel";

/** Stands in for the browser's WebSocket; the test plays the server. */
class Socket {
  static readonly OPEN = 1;
  static opened: Socket[] = [];
  readonly readyState = Socket.OPEN;
  readonly sent: unknown[] = [];
  onopen?: () => void;
  onmessage?: (event: { data: unknown }) => void;
  onclose?: () => void;

  constructor(readonly path: string) {
    Socket.opened.push(this);
  }

  answer(type: string, payload: unknown) {
    this.onmessage?.({ data: JSON.stringify({ type, channel: "device-data", payload }) });
  }

  send(text: string) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.onclose?.();
  }
}

function open(token: () => Promise<string | null> = async () => "a-token") {
  const statuses: ChannelStatus[] = [];
  const messages: Message[] = [];
  const close = openChannel({
    path: "/ws/device-data",
    channel: "device-data",
    payload: { device_id: "d1" },
    token,
    onMessage: (message) => messages.push(message),
    onStatus: (status) => statuses.push(status),
  });
  return { statuses, messages, close };
}

const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", Socket);
  Socket.opened = [];
});

afterEach(() => {
  vi.useRealTimers();
});

test("authenticates, subscribes, and is live once the server answers", async () => {
  const channel = open();
  await settle();
  const [socket] = Socket.opened;
  socket?.onopen?.();
  expect(socket?.sent).toEqual([
    { type: "auth", channel: "", payload: { token: "a-token" } },
    { type: "subscribe", channel: "device-data", payload: { device_id: "d1" } },
  ]);
  expect(channel.statuses).toEqual(["connecting"]);
  socket?.onmessage?.({ data: "no JSON" });
  socket?.answer("auth", { expires_at: Date.now() / 1000 + 900 });
  expect(channel.statuses).toEqual(["connecting"]);
  socket?.onmessage?.({ data: '{"type": "data", "channel": "device-data", "payload": 1}' });
  expect(channel.statuses).toEqual(["connecting", "live"]);
  expect(channel.messages).toHaveLength(1);
});

test("a new token is sent before the old one ends, and not after the connection is lost", async () => {
  const channel = open();
  await settle();
  const [socket] = Socket.opened;
  socket?.answer("auth", { expires_at: Date.now() / 1000 + 900 });
  await vi.advanceTimersByTimeAsync(850_000);
  expect(socket?.sent).toEqual([]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(socket?.sent).toEqual([{ type: "auth", channel: "", payload: { token: "a-token" } }]);
  socket?.answer("auth", { expires_at: Date.now() / 1000 + 900 });
  channel.close();
  await vi.advanceTimersByTimeAsync(900_000);
  expect(socket?.sent).toHaveLength(1);
});

test("a lost connection is made again, with a token asked for anew", async () => {
  const token = vi.fn(async () => "a-token");
  const channel = open(token);
  await settle();
  Socket.opened[0]?.onclose?.();
  expect(channel.statuses).toEqual(["connecting", "offline"]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(Socket.opened).toHaveLength(2);
  expect(token).toHaveBeenCalledTimes(2);
});

test("a server that refuses every connection is asked ever more rarely", async () => {
  open();
  await settle();
  for (let minute = 0; minute < 10; minute += 1) {
    Socket.opened.at(-1)?.onclose?.();
    await vi.advanceTimersByTimeAsync(22_500);
  }
  const before = Socket.opened.length;
  Socket.opened.at(-1)?.onclose?.();
  await vi.advanceTimersByTimeAsync(7_000);
  expect(Socket.opened).toHaveLength(before);
});

test("nothing is opened after closing, nor without a session", async () => {
  const channel = open();
  await settle();
  channel.close();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(Socket.opened).toHaveLength(1);

  const anonymous = open(async () => null);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(Socket.opened).toHaveLength(1);
  expect(anonymous.statuses.at(-1)).toBe("offline");
});

test("a token that cannot be had now is asked for again later", async () => {
  const token = vi.fn<() => Promise<string>>().mockRejectedValueOnce(new Error("no network"));
  token.mockResolvedValue("a-token");
  open(token);
  await vi.advanceTimersByTimeAsync(1000);
  expect(Socket.opened).toHaveLength(1);
});
