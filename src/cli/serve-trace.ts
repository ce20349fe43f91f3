/** The output of `barter serve` on stdout: a line when it is ready, and with --trace a line for each exchange. */
import { BoundedOutput } from '../linux/bounded-output.ts';
import type { FdNote } from '../linux/fd-note.ts';
import type { FieldTexts } from '../vfio-user/exchange/describe.ts';
import { Exchanges, type TracedExchange } from '../vfio-user/exchange/exchanges.ts';
import type { TappedMessage } from '../vfio-user/wire/tap.ts';

const STDOUT = 1;

export class ServeOutput {
  private readonly asJson: boolean;
  private readonly output: BoundedOutput;
  private readonly exchanges = new Exchanges((exchange) => this.exchange(exchange));
  private firstMs: number | null = null;

  /** `onGone` is called when the reader of stdout is gone. */
  constructor(asJson: boolean, onGone: () => void) {
    this.asJson = asJson;
    this.output = new BoundedOutput(STDOUT, { lost: (lines) => this.lost(lines), onGone });
  }

  /** `http` is the address of the page, if there is one. */
  ready(devices: readonly { name: string; socket: string }[], http: string | null = null): void {
    if (this.asJson) {
      this.output.write(JSON.stringify({ ready: true, devices, ...(http === null ? {} : { http }) }));
      return;
    }
    const places = devices.map(({ name, socket }) => `${name} at ${socket}`);
    this.output.write(`ready: ${[...places, ...(http === null ? [] : [`page at ${http}`])].join(', ')}`);
  }

  /** Prints an exchange when it is over. A reply whose command was lost prints nothing. */
  trace(message: TappedMessage, lost: number): void {
    if (lost > 0) {
      this.output.write(this.lost(lost));
      this.exchanges.forget();
    }
    this.firstMs ??= message.atMs;
    this.exchanges.add(message);
  }

  flush(): void {
    this.output.flush();
  }

  private exchange(exchange: TracedExchange): void {
    this.output.write(this.asJson ? JSON.stringify(exchange) : lineOf(exchange, this.firstMs ?? exchange.atMs));
  }

  private lost(lines: number): string {
    return this.asJson ? JSON.stringify({ lost: lines }) : `${lines} messages were lost: the reader is too slow`;
  }
}

/** Times are milliseconds since the first message. An arrow says which way the command went. */
function lineOf(exchange: TracedExchange, firstMs: number): string {
  const { atMs, device, message, isOfServer, request, requestFds, reply, isUnanswered } = exchange;
  const time = (atMs - firstMs).toFixed(3).padStart(12);
  const sent = [message, words(request), descriptors(requestFds)].filter((part) => part !== '').join(' ');
  const head = `${time}  ${device.padEnd(10)} ${isOfServer ? '<' : '>'} ${sent}`;
  if (reply === null) return `${head}  ${isUnanswered ? 'no reply: the connection ended' : 'wants no reply'}`;
  const news = Object.fromEntries(Object.entries(reply.fields).filter(([name, value]) => request[name] !== value));
  const result = [reply.errno ?? 'ok', words(news), descriptors(reply.fds)].filter((part) => part !== '').join(' ');
  return `${head}  ${result}  ${reply.latencyMs.toFixed(3)} ms`;
}

function words(fields: FieldTexts): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}

/** For example `[file of 67108864 bytes] [eventfd]`. */
function descriptors(fds: readonly FdNote[]): string {
  return fds.map(({ kind, sizeBytes }) => (kind === 'file' ? `[file of ${sizeBytes} bytes]` : `[${kind}]`)).join(' ');
}
